use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const BODY: &[u8] = b"weights";

/// A hub on this machine that has one file; answers its address and the requests it got.
fn hub() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &log);
        }
    });
    (address, requests)
}

fn answer(mut stream: TcpStream, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    let found = request.contains("/timm/tf_efficientnet_lite0.in1k/resolve/main/model.safetensors");
    let status = if found { "200 OK" } else { "404 Not Found" };
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let length = BODY.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"tag\"\r\nX-Repo-Commit: {commit}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    if request.starts_with("GET") {
        stream.write_all(BODY).unwrap();
    }
    log.lock().unwrap().push(request);
}

#[test]
fn the_hub_is_asked_last_and_once() {
    let cache = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let folders = [(empty.path().to_path_buf(), "$DML_WEIGHTS")];
    let (address, requests) = hub();
    let client = || HFClient::builder().endpoint(&address).cache_dir(cache.path());
    let path = find_in(&EFFICIENTNET_LITE0, &folders, client()).unwrap();
    assert!(path.starts_with(cache.path()), "{}", path.display());
    assert_eq!(std::fs::read(&path).unwrap(), BODY);
    let count = requests.lock().unwrap().len();
    assert!(count > 0);

    // What was downloaded is found without asking again.
    assert_eq!(find_in(&EFFICIENTNET_LITE0, &folders, client()).unwrap(), path);
    assert_eq!(requests.lock().unwrap().len(), count);

    // A local file comes first.
    let local = empty.path().join("efficientnet-lite0.pth");
    std::fs::write(&local, b"here").unwrap();
    assert_eq!(find_in(&EFFICIENTNET_LITE0, &folders, client()).unwrap(), local);
}

#[test]
fn a_hub_without_the_file_or_without_a_voice_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let folders = [(cache.path().join("none"), "$DML_WEIGHTS")];
    let (address, _) = hub();
    let other = Published { hub: ("timm", "other", "model.safetensors"), ..EFFICIENTNET_LITE0 };
    let client = HFClient::builder().endpoint(address).cache_dir(cache.path());
    let absent = find_in(&other, &folders, client).unwrap_err().to_string();

    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = HFClient::builder().endpoint(format!("http://127.0.0.1:{port}")).cache_dir(cache.path());
    let silent = find_in(&EFFICIENTNET_LITE0, &folders, client).unwrap_err().to_string();
    for (message, part) in [
        (&absent, "timm/other, model.safetensors"),
        (&silent, "timm/tf_efficientnet_lite0.in1k, model.safetensors"),
        (&silent, "refused"),
        (&silent, "none ($DML_WEIGHTS): efficientnet-lite0.pth, efficientnet-lite0.safetensors not there"),
        (&silent, "EfficientNet-Lite0's ImageNet weights not found"),
        (&silent, "name it in DML_WEIGHTS"),
    ] {
        assert!(message.contains(part), "{message}\nlacks {part}");
    }
}

#[test]
fn a_given_path_is_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("efficientnet-lite0.safetensors");
    let message = find(&EFFICIENTNET_LITE0, Some(&file)).unwrap_err().to_string();
    assert!(message.contains("efficientnet-lite0.safetensors (given)"), "{message}");
    std::fs::write(&file, BODY).unwrap();
    assert_eq!(find(&EFFICIENTNET_LITE0, Some(&file)).unwrap(), file);
    assert_eq!(find(&EFFICIENTNET_LITE0, Some(folder.path())).unwrap(), file);
}
