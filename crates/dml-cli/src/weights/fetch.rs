//! One file of published weights, from its publisher or from the Hugging Face hub.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use dml_prepare::{Event, Network, Run, Source};
use hf_hub::{HFClient, HFClientSync};

use crate::progress::{FetchProgress, complain};

/// Downloads a file from the hub, unless the hub's cache has it.
pub(crate) fn from_hub(hub: &str, file: &str) -> Result<PathBuf> {
    let (owner, name) = hub.split_once('/').with_context(|| format!("{hub:?} is not owner/name"))?;
    let fetch = || {
        let client = HFClientSync::from_inner(HFClient::builder().retry_max_attempts(2).build()?)?;
        let repository = client.model(owner, name);
        let cached = repository.download_file().filename(file).local_files_only(true).send();
        cached.or_else(|_| repository.download_file().filename(file).send())
    };
    fetch().with_context(|| {
        format!("fetching {file} of {hub} from the Hugging Face hub (HF_ENDPOINT names a mirror)")
    })
}

/// Downloads a file as datasets are: resumed, checked, and not again where it is there.
pub(crate) fn from_url(name: &str, source: Source, folder: &Path, stop: &AtomicBool) -> Result<PathBuf> {
    let progress = FetchProgress::default();
    let events = |event: Event| match event {
        Event::Started { what, of, from, .. } => progress.start(what, of, from),
        Event::Advanced(at) => progress.advance(at),
        Event::Finished => progress.finish(),
        Event::Note(text) => complain(&text),
        Event::LeftOut { .. } => {}
    };
    let run = Run { events: &events, stop };
    Ok(dml_prepare::fetch(name, vec![source], folder, &Network::default(), run)?)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// Serves "weights" to every request.
    fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/file", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                lines.take_while(|line| !line.as_ref().unwrap().is_empty()).for_each(drop);
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nweights";
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_file_is_there_only_if_it_is_the_published_one() {
        let (url, folder) = (server(), tempfile::tempdir().unwrap());
        let source = || Source { url: Some(url.clone()), file: Some("file".into()), ..Source::default() };
        let fetch =
            |source: Source, folder: &Path| from_url("weights", source, folder, &AtomicBool::new(false));
        let check = |source: Source, problem: &str| {
            let message = format!("{:#}", fetch(source, folder.path()).unwrap_err());
            assert!(message.contains(problem) && message.contains(&url), "{message}");
            assert!(!folder.path().join("file").exists(), "{problem}");
        };
        check(Source { size: Some(8), ..source() }, "its size is 7 where 8 was expected");
        check(Source { sha256: Some("0".repeat(64)), ..source() }, "its SHA-256 is");
        check(Source { sha1: Some("0".repeat(40)), ..source() }, "its SHA-1 is");
        let right = Source {
            size: Some(7),
            sha256: Some("9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c".into()),
            ..source()
        };
        let sub = folder.path().join("sub");
        let path = fetch(right.clone(), &sub).unwrap();
        assert_eq!(
            (path.as_path(), std::fs::read(&path).unwrap()),
            (&*sub.join("file"), b"weights".to_vec())
        );
        // It is not asked for again: nobody answers there.
        fetch(Source { url: Some("http://127.0.0.1:9/file".into()), ..right.clone() }, &sub).unwrap();
        std::fs::write(&path, b"other").unwrap();
        let message = format!("{:#}", fetch(right, &sub).unwrap_err());
        assert!(message.contains("move it away"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
    }
}
