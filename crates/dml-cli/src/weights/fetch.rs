//! One file over HTTP, checked, under its name only when whole; or from the Hugging Face hub.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hf_hub::{HFClient, HFClientSync};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::tls::{RootCerts, TlsConfig};

/// What is known of a file.
#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) size: Option<u64>,
    pub(crate) sha256: Option<String>,
    pub(crate) sha1: Option<String>,
}

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

/// Downloads a file, unless it is there and passes its checks.
pub(crate) fn from_url(url: &str, path: &Path, checks: &Checks) -> Result<()> {
    if path.exists() {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        return copy_checked(file, &mut std::io::sink(), checks).with_context(|| {
            format!("{} is there but not the published file; move it away", path.display())
        });
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let response = agent(Duration::from_secs(30)).get(url).call();
    let body = response.with_context(|| format!("fetching {url}"))?.into_body();
    let mut temporary = tempfile::NamedTempFile::new_in(folder).context("making a temporary file")?;
    copy_checked(body.into_reader(), &mut temporary, checks).with_context(|| format!("fetching {url}"))?;
    temporary.as_file().sync_all().with_context(|| format!("writing {}", path.display()))?;
    temporary.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

/// A client that waits so long for a connection and for an answer to begin.
pub(crate) fn agent(patience: Duration) -> ureq::Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(patience))
        .timeout_recv_response(Some(patience))
        .tls_config(tls)
        .build();
    ureq::Agent::new_with_config(config)
}

fn copy_checked(mut from: impl Read, to: &mut impl Write, checks: &Checks) -> Result<()> {
    let (mut size, mut sha1, mut sha256) = (0, Sha1::new(), Sha256::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        to.write_all(&buffer[..n])?;
        size += n as u64;
        sha1.update(&buffer[..n]);
        sha256.update(&buffer[..n]);
    }
    if let Some(wanted) = checks.size
        && wanted != size
    {
        bail!("{size} bytes came; the published file has {wanted}");
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (name, wanted, got) in
        [("sha256", &checks.sha256, hex(&sha256.finalize())), ("sha1", &checks.sha1, hex(&sha1.finalize()))]
    {
        if let Some(wanted) = wanted {
            ensure!(*wanted == got, "its {name} is {got}; the published file's is {wanted}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
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
        let digest = |digest: &str| Some(digest.to_string());
        let right = Checks {
            size: Some(7),
            sha256: digest("9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"),
            sha1: None,
        };
        let check = |checks: &Checks, problem: &str| {
            let path = folder.path().join("wrong");
            let message = format!("{:#}", from_url(&url, &path, checks).unwrap_err());
            assert!(message.contains(problem) && message.contains(&url), "{message}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{problem}");
        };
        check(&Checks { size: Some(8), ..Checks::default() }, "7 bytes came; the published file has 8");
        check(&Checks { sha256: digest("00"), ..Checks::default() }, "its sha256 is");
        check(&Checks { sha1: digest("00"), ..Checks::default() }, "its sha1 is");
        let path = folder.path().join("sub/right");
        from_url(&url, &path, &right).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"weights");
        // It is not asked for again: nobody answers there.
        from_url("http://127.0.0.1:9/file", &path, &right).unwrap();
        std::fs::write(&path, b"other").unwrap();
        let message = format!("{:#}", from_url(&url, &path, &right).unwrap_err());
        assert!(message.contains("move it away"), "{message}");
    }
}
