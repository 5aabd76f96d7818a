//! Downloads from a server that misbehaves, through to the prepared set.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Request, Server, answer, head, impatient, manifest, prepare, serve, sha256, tar, voc};
use dml_prepare::{Event, Manifest, Options, Outcome, PrepareError};
use tempfile::TempDir;

type Handler = fn(&Request, usize, &mut TcpStream, &[u8]);

fn source(url: &str, more: &str) -> String {
    format!("[[parts.sources]]\nurl = \"{url}\"\nfile = \"VOC.tar\"\n{more}\n")
}

fn voc_manifest(dir: &Path, sources: &str) -> Manifest {
    let part = "[[parts]]\nname = \"trainval\"\nunpacked_max = 10_000_000\n";
    manifest(dir, &format!("{}{part}{sources}[expected]\ntrain = 6\nimages = 6\n", head("voc2007")))
}

fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir);
    options.network.patience = impatient();
    options.jobs = 2;
    options
}

/// Serves the archive under `/first` with `handler` and under `/second` as it should be, prepares from both with its
/// checksum, and gives the requests and the notes. The set must be whole whatever happens.
fn check(handler: Handler, sources: &[&str]) -> (Vec<Request>, Vec<String>) {
    let archive = Arc::new(tar(&voc(6)));
    let served = Arc::clone(&archive);
    let server = Server::start(move |request, number, stream| match request.path.as_str() {
        "/first" => handler(request, number, stream, &served),
        _ => serve(stream, request, &served, "good"),
    });
    let dir = TempDir::new().unwrap();
    let sum = format!("sha256 = \"{}\"\n", sha256(&archive));
    let sources: String =
        sources.iter().map(|path| source(&format!("{}{path}", server.address), &sum)).collect();
    let manifest = voc_manifest(dir.path(), &sources);
    let (done, events) = prepare(&manifest, &options(dir.path()));
    let Outcome::Prepared(summary) = done.unwrap() else { panic!("it was not there before") };
    assert_eq!((summary.samples, summary.failures.len(), summary.differences.len()), (6, 0, 0));
    let left: Vec<_> = crate::common::tree(dir.path()).into_iter().map(|(path, _)| path).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().contains(".part")), "{left:?}");
    let notes = events.into_iter().filter_map(|event| match event {
        Event::Note(text) => Some(text),
        _ => None,
    });
    (server.requests(), notes.collect())
}

#[test]
fn a_cut_transfer_is_resumed() {
    let (requests, _) = check(
        |request, number, stream, archive| match number {
            0 => answer(stream, "200 OK", &[("ETag", "\"x\"".into())], archive, 20_000),
            _ => serve(stream, request, archive, "x"),
        },
        &["/first"],
    );
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[1].range, requests[1].if_range.as_deref()), (Some(20_000), Some("\"x\"")));
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_whole() {
    let (requests, notes) = check(
        |request, number, stream, archive| match number {
            0 => answer(stream, "200 OK", &[("ETag", "\"old\"".into())], &vec![7; archive.len()], 20_000),
            _ => serve(stream, request, archive, "new"),
        },
        &["/first"],
    );
    assert_eq!(requests[1].if_range.as_deref(), Some("\"old\""));
    assert!(notes.iter().any(|note| note.contains("starting over")), "{notes:?}");
}

#[test]
fn bytes_are_appended_to_206_alone_and_where_the_file_ends() {
    // 200 in answer to a Range request: the whole file again.
    let (requests, _) = check(
        |_, number, stream, archive| {
            answer(
                stream,
                "200 OK",
                &[("ETag", "\"x\"".into())],
                archive,
                if number == 0 { 20_000 } else { usize::MAX },
            );
        },
        &["/first"],
    );
    assert_eq!(requests[1].range, Some(20_000));
    // 206 of another range than was asked for.
    let (requests, notes) = check(
        |_, number, stream, archive| {
            let range = format!("bytes 10-{}/{}", archive.len() - 1, archive.len());
            let tag = ("ETag", "\"x\"".to_owned());
            match number {
                0 => answer(stream, "200 OK", &[tag], archive, 20_000),
                1 => answer(
                    stream,
                    "206 Partial Content",
                    &[tag, ("Content-Range", range)],
                    &archive[10..],
                    usize::MAX,
                ),
                _ => answer(stream, "200 OK", &[tag], archive, usize::MAX),
            }
        },
        &["/first"],
    );
    assert_eq!((requests.len(), requests[2].range), (3, None));
    assert!(notes.iter().any(|note| note.contains("not the range")), "{notes:?}");
    // Without a validator nothing says that the rest belongs to the beginning.
    let (requests, _) = check(
        |_, number, stream, archive| {
            answer(stream, "200 OK", &[], archive, if number == 0 { 20_000 } else { usize::MAX })
        },
        &["/first"],
    );
    assert_eq!(requests[1].range, None);
}

#[test]
fn the_next_mirror_is_tried() {
    let wrong = |_: &Request, _: usize, stream: &mut TcpStream, archive: &[u8]| {
        answer(stream, "200 OK", &[], &vec![1; archive.len()], usize::MAX);
    };
    let gone = |_: &Request, _: usize, stream: &mut TcpStream, _: &[u8]| {
        answer(stream, "404 Not Found", &[], b"no", 2)
    };
    let cases: [(Handler, usize, &str); 3] = [
        (gone, 1, "404 Not Found"),
        (wrong, 1, "SHA-256"),
        // Attempts that bring nothing are few.
        (|_, _, stream, _| answer(stream, "503 Service Unavailable", &[], b"", 0), 3, "503"),
    ];
    for (handler, first, word) in cases {
        let (requests, notes) = check(handler, &["/first", "/second"]);
        assert_eq!(requests.iter().filter(|request| request.path == "/first").count(), first, "{notes:?}");
        assert!(notes.iter().any(|note| note.contains(word)), "{notes:?} without {word}");
    }
}

#[test]
fn a_stalling_server_is_given_up() {
    let (requests, notes) = check(
        |request, number, stream, archive| match number {
            0 => {
                answer(stream, "200 OK", &[("ETag", "\"x\"".into())], archive, 30_000);
                std::thread::sleep(Duration::from_secs(3));
            }
            _ => serve(stream, request, archive, "x"),
        },
        &["/first"],
    );
    assert_eq!(requests[1].range, Some(30_000), "{notes:?}");
}

#[test]
fn when_no_source_works_the_error_says_why() {
    let server = Server::start(|request, _, stream| match request.path.as_str() {
        "/gone" => answer(stream, "410 Gone", &[], b"", 0),
        _ => answer(stream, "200 OK", &[], b"something else", usize::MAX),
    });
    let dir = TempDir::new().unwrap();
    let sum = format!("sha256 = \"{}\"\n", sha256(b"the real thing"));
    let sources: String =
        ["/gone", "/other"].map(|path| source(&format!("{}{path}", server.address), &sum)).concat();
    let error = prepare(&voc_manifest(dir.path(), &sources), &options(dir.path())).0.unwrap_err().to_string();
    for part in ["trainval", "/gone", "410 Gone", "/other", "SHA-256", "--from"] {
        assert!(error.contains(part), "\"{error}\" does not say {part}");
    }
    let left = crate::common::tree(&dir.path().join("voc2007"));
    assert!(left.iter().all(|(path, _)| path.extension().is_none_or(|ending| ending != "tar")), "{left:?}");
}

#[test]
fn a_disk_that_is_too_small_is_refused_beforehand() {
    let server = Server::start(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n\r\n");
    });
    let dir = TempDir::new().unwrap();
    let manifest = voc_manifest(dir.path(), &source(&format!("{}/x", server.address), ""));
    let error = prepare(&manifest, &options(dir.path())).0.unwrap_err();
    assert!(matches!(error, PrepareError::Space { needed: 1_000_000_000_000_000_000, .. }), "{error}");
    assert!(error.to_string().contains("are missing") && error.to_string().contains("--data"), "{error}");
}

#[test]
fn checksums_that_nobody_publishes_are_those_first_seen() {
    let archive = tar(&voc(6));
    let mut other = archive.clone();
    other[600] ^= 1;
    let server = Server::start(move |_, number, stream| {
        answer(stream, "200 OK", &[], if number == 0 { &archive } else { &other }, usize::MAX);
    });
    let dir = TempDir::new().unwrap();
    let manifest = voc_manifest(dir.path(), &source(&format!("{}/x", server.address), ""));
    prepare(&manifest, &options(dir.path())).0.unwrap();
    let lock = std::fs::read_to_string(dir.path().join("voc2007.lock")).unwrap();
    assert!(lock.contains(&format!("[\"{}/x\"]", server.address)) && lock.contains("sha256"), "{lock}");
    std::fs::remove_dir_all(dir.path().join("voc2007")).unwrap();
    let error = prepare(&manifest, &options(dir.path())).0.unwrap_err().to_string();
    assert!(error.contains("first seen") && error.contains("voc2007.lock"), "{error}");
}

#[test]
fn a_full_disk_stops_and_is_continued() {
    let dir = TempDir::new().unwrap();
    let small = dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mount = |size: &str, more: &str| {
        let options = format!("{more}size={size}");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "dml-test"])
            .arg(&small)
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !mount("100k", "") {
        eprintln!("a_full_disk_stops_and_is_continued: left out, because a tmpfs cannot be mounted here");
        return;
    }
    let archive = tar(&voc(6));
    assert!(archive.len() > 120_000);
    // No length is stated, so nothing can be refused beforehand.
    let served = archive.clone();
    let server = Server::start(move |request, _, stream| match request.range {
        Some(_) => serve(stream, request, &served, "x"),
        None => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"x\"\r\n\r\n");
            let _ = stream.write_all(&served);
        }
    });
    let manifest = voc_manifest(dir.path(), &source(&format!("{}/x", server.address), ""));
    let first = prepare(&manifest, &options(&small)).0;
    let grown = mount("4m", "remount,");
    let second = prepare(&manifest, &options(&small)).0;
    let _ = std::process::Command::new("umount").arg("-l").arg(&small).status();
    let error = first.unwrap_err();
    assert!(matches!(error, PrepareError::Space { .. }), "{error}");
    assert!(grown);
    assert!(matches!(second.unwrap(), Outcome::Prepared(summary) if summary.samples == 6));
    assert!(server.requests()[1].range.is_some_and(|first| first > 50_000), "{:?}", server.requests());
}

#[test]
fn files_come_from_the_hub() {
    let archive = tar(&voc(6));
    let size = archive.len();
    let server = Server::start(move |request, _, stream| {
        if request.path.starts_with("/api/datasets/someone/voc/tree/main") {
            let listing = format!(
                r#"[{{"type":"directory","oid":"a","path":"sub"}},{{"type":"file","oid":"b","size":{size},"path":"sub/VOC.tar"}},
                   {{"type":"file","oid":"c","size":5,"path":"README.md"}}]"#
            );
            answer(
                stream,
                "200 OK",
                &[("Content-Type", "application/json".into())],
                listing.as_bytes(),
                usize::MAX,
            );
        } else if request.path == "/datasets/someone/voc/resolve/main/sub/VOC.tar" {
            serve(stream, request, &archive, "x");
        } else {
            answer(stream, "404 Not Found", &[], b"", 0);
        }
    });
    let dir = TempDir::new().unwrap();
    let source = "[[parts.sources]]\nhub = \"someone/voc\"\nfiles = [\"sub/*.tar\"]\n";
    let mut options = options(dir.path());
    options.network.hub = Some(server.address.clone());
    options.network.token = Some("hf_secret".into());
    let (done, _) = prepare(&voc_manifest(dir.path(), source), &options);
    assert!(matches!(done.unwrap(), Outcome::Prepared(summary) if summary.samples == 6));
    let sent = server.requests().into_iter().find(|request| request.path.contains("resolve")).unwrap();
    assert_eq!(sent.authorization.as_deref(), Some("Bearer hf_secret"));
}
