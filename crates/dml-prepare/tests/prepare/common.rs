//! What the tests share: a small HTTP server, small datasets made by code, and a run that collects its events.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dml_prepare::{Event, Manifest, Options, Outcome, Patience, PrepareError, Run};

/// What a client asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<u64>,
    pub(crate) if_range: Option<String>,
    pub(crate) authorization: Option<String>,
}

/// Answers each request, on a connection of its own, with `handler`.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request, usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, handler) = (Arc::clone(&log), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (seen, handler) = (Arc::clone(&seen), Arc::clone(&handler));
                std::thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(request.clone());
                        seen.iter().filter(|other| other.path == request.path).count() - 1
                    };
                    handler(&request, number, &mut stream);
                });
            }
        });
        Self { address, log }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut request = Request { path: first.split(' ').nth(1)?.to_owned(), ..Request::default() };
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            return Some(request);
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "if-range" => request.if_range = Some(value.into()),
            "authorization" => request.authorization = Some(value.into()),
            _ => {}
        }
    }
    None
}

/// Writes an answer: the status, further headers, and of a body of `content` the part that `sent` says.
pub(crate) fn answer(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, String)],
    content: &[u8],
    sent: usize,
) {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", content.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&content[..sent.min(content.len())]);
    let _ = stream.flush();
}

/// A server's answer to a request for a file that it serves as it should, resuming included.
pub(crate) fn serve(stream: &mut TcpStream, request: &Request, content: &[u8], tag: &str) {
    let etag = ("ETag", format!("\"{tag}\""));
    match request.range {
        Some(first) if request.if_range.as_deref() == Some(&etag.1) => {
            let rest = &content[first as usize..];
            let range = format!("bytes {first}-{}/{}", content.len() - 1, content.len());
            answer(stream, "206 Partial Content", &[etag, ("Content-Range", range)], rest, rest.len());
        }
        _ => answer(stream, "200 OK", &[etag], content, content.len()),
    }
}

/// Downloads that are given up soon.
pub(crate) fn impatient() -> Patience {
    Patience {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(400),
        attempts: 3,
        backoff: Duration::from_millis(10),
    }
}

/// Writes a manifest, reads it and gives it.
pub(crate) fn manifest(dir: &Path, text: &str) -> Manifest {
    let path = dir.join("manifest.toml");
    std::fs::write(&path, text).unwrap();
    Manifest::read(&path).unwrap()
}

/// The head of a manifest of this dataset.
pub(crate) fn head(name: &str) -> String {
    format!("name = \"{name}\"\ntitle = \"T\"\nhomepage = \"H\"\nlicence = \"L\"\ncitation = \"C\"\n")
}

/// Prepares and gives the outcome with all events.
pub(crate) fn prepare(manifest: &Manifest, options: &Options) -> (Result<Outcome, PrepareError>, Vec<Event>) {
    let events: Mutex<Vec<Event>> = Mutex::default();
    let collect = |event| events.lock().unwrap().push(event);
    let stop = AtomicBool::new(false);
    let done = dml_prepare::prepare(manifest, options, Run { events: &collect, stop: &stop });
    (done, events.into_inner().unwrap())
}

/// Every file below a folder with its content, without the lock; names relative to it.
pub(crate) fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != ".lock" {
                files.push((path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// A JPEG file of a gradient whose look depends on `seed`.
pub(crate) fn jpeg(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let pixel =
        |x: u32, y: u32| image::Rgb([(x * 3 + seed * 40) as u8, (y * 5) as u8, (x + y + seed * 7) as u8]);
    let mut bytes = Vec::new();
    let image = image::RgbImage::from_fn(width, height, pixel);
    image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
    bytes
}

/// The files of a small PASCAL VOC 2007: `images` of them, listed in `train` and `trainval`.
pub(crate) fn voc(images: u32) -> Vec<(String, Vec<u8>)> {
    let root = "VOCdevkit/VOC2007";
    let ids: Vec<String> = (0..images).map(|n| format!("{n:06}")).collect();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for (id, n) in ids.iter().zip(0..) {
        files.push((format!("{root}/JPEGImages/{id}.jpg"), jpeg(300 + n % 5, 280, n)));
    }
    for split in ["train", "trainval"] {
        let list: String = ids.iter().map(|id| format!("{id}\n")).collect();
        files.push((format!("{root}/ImageSets/Main/{split}.txt"), list.into_bytes()));
        for (class, name) in dml_data::splits::VOC_CLASSES.iter().enumerate() {
            let flag = |n: usize| if n % 20 == class { " 1" } else { "-1" };
            let lines: String = ids.iter().enumerate().map(|(n, id)| format!("{id} {}\n", flag(n))).collect();
            files.push((format!("{root}/ImageSets/Main/{name}_{split}.txt"), lines.into_bytes()));
        }
    }
    files
}

/// A tar archive of files.
pub(crate) fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether ffmpeg is here; says so on one line where it is not.
pub(crate) fn ffmpeg_is_here(test: &str) -> bool {
    let here = dml_prepare::Ffmpeg::find().is_ok();
    if !here {
        eprintln!("{test}: left out, because ffmpeg is not installed");
    }
    here
}
