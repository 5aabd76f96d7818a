//! One file over HTTP: resumed, retried, and only ever whole under its final name.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::error::io;
use crate::event::{Event, Run};
use crate::files::{beside, remove, room, written};
use crate::{PrepareError, Result};

/// How patient a download is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection, and for an answer to a request.
    pub connect: Duration,
    /// For the next bytes; a server that sends nothing for so long is given up.
    pub stall: Duration,
    /// Attempts that bring no new byte, before the next mirror is tried.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub backoff: Duration,
}

impl Default for Patience {
    /// Thirty seconds for an answer, a minute for the next bytes, five attempts, two seconds between the first two.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(30), stall: seconds(60), attempts: 5, backoff: seconds(2) }
    }
}

/// Why a source did not give its file.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This source does not work; another may.
    Source(String),
    /// No source would do, such as a full disk or an interruption.
    Final(PrepareError),
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        Self::Final(error)
    }
}

/// Downloads files. The system's certificates are trusted; `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are
/// honoured.
pub(crate) struct Downloader {
    agent: Agent,
    patience: Patience,
}

/// What is known of an unfinished file, stored beside it.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Resume {
    url: String,
    /// The entity tag or date for `If-Range`: without one, nothing tells whether the rest belongs to the beginning.
    validator: Option<String>,
}

impl Downloader {
    pub(crate) fn new(patience: Patience) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.connect))
            .timeout_per_read(Some(patience.stall))
            .tls_config(tls)
            .user_agent(concat!("dml/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), patience }
    }

    /// Why the server at this address does not answer, if it does not.
    pub(crate) fn silence(&self, url: &str) -> Option<String> {
        self.agent.head(url).call().err().map(|error| error.to_string())
    }

    /// The size that the server states for a file, without fetching it.
    pub(crate) fn size(&self, url: &str) -> Option<u64> {
        let response = self.agent.head(url).call().ok()?;
        if response.status() == StatusCode::OK { number(response.headers(), "content-length") } else { None }
    }

    /// Fetches `url` into `path` with `.part` appended and gives whether it continued an earlier transfer. The caller
    /// checks the content and renames it.
    ///
    /// A transfer is continued with `Range` and `If-Range` if the server gave a strong validator; bytes are appended
    /// only to an answer 206 that begins where the file ends. `token` is sent to the server of `url` alone.
    pub(crate) fn fetch(
        &self,
        url: &str,
        token: Option<&str>,
        path: &Path,
        run: Run<'_>,
    ) -> std::result::Result<bool, Failure> {
        let mut resumed = false;
        let mut fruitless = 0;
        let mut wait = self.patience.backoff;
        loop {
            run.check()?;
            let before = length(&part(path));
            let problem = match self.attempt(url, token, path, run) {
                Ok(Attempt::Whole { continued }) => return Ok(resumed || continued),
                Ok(Attempt::Broken(problem)) => problem,
                Err(failure) => return Err(failure),
            };
            let after = length(&part(path));
            resumed |= after > before && before > 0;
            if after > before {
                (fruitless, wait) = (0, self.patience.backoff);
            }
            fruitless += 1;
            if fruitless >= self.patience.attempts {
                return Err(Failure::Source(format!("{url}: {problem} ({fruitless} attempts)")));
            }
            run.note(format!("{url}: {problem}; another attempt in {:.0} s", wait.as_secs_f64()));
            pause(wait, run)?;
            wait *= 2;
        }
    }

    fn attempt(
        &self,
        url: &str,
        token: Option<&str>,
        path: &Path,
        run: Run<'_>,
    ) -> std::result::Result<Attempt, Failure> {
        let (part, note) = (part(path), note(path));
        let known = std::fs::read(&note).ok().and_then(|text| serde_json::from_slice::<Resume>(&text).ok());
        let mut begin = length(&part);
        let validator = known.filter(|resume| resume.url == url).and_then(|resume| resume.validator);
        let mut request = self.agent.get(url);
        if let Some(token) = token {
            // Not passed on when the answer redirects to another host.
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        match &validator {
            Some(validator) if begin > 0 => {
                request =
                    request.header("Range", format!("bytes={begin}-")).header("If-Range", validator.as_str());
            }
            _ => begin = 0,
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(e) => return Ok(Attempt::Broken(e.to_string())),
        };
        let status = response.status();
        let whole = match status {
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((first, total)) if begin > 0 && first == begin => Some(total),
                _ => {
                    remove(&part)?;
                    return Ok(Attempt::Broken("the answer is not the range that was asked for".into()));
                }
            },
            StatusCode::OK => {
                if begin > 0 {
                    run.note(format!("{url}: the server sends the whole file again; starting over"));
                }
                begin = 0;
                number(response.headers(), "content-length")
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                remove(&part)?;
                return Ok(Attempt::Broken(
                    "the file there is no longer what was begun; starting over".into(),
                ));
            }
            _ if passing(status) => return Ok(Attempt::Broken(format!("the server answers {status}"))),
            _ => return Err(Failure::Source(format!("{url}: the server answers {status}"))),
        };
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&part);
        if let Ok(file) = &mut file {
            file.set_len(begin).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io(&part))?;
        }
        let file = file.map_err(io(&part))?;
        let resume = Resume { url: url.to_owned(), validator: strong_validator(response.headers()) };
        let text = serde_json::to_vec(&resume).unwrap_or_default();
        std::fs::write(&note, text).map_err(written(&note, 0))?;
        if let (Some(whole), Some(dir)) = (whole, part.parent()) {
            room(dir, whole.saturating_sub(begin))?;
        }
        self.copy(response, file, &part, begin, whole, run)
    }

    fn copy(
        &self,
        response: Response<Body>,
        mut file: File,
        part: &Path,
        begin: u64,
        whole: Option<u64>,
        run: Run<'_>,
    ) -> std::result::Result<Attempt, Failure> {
        let name = part.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        run.send(Event::Started { what: name, of: whole, bytes: true, from: begin });
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        let mut at = begin;
        let broken = loop {
            run.check()?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(count) => count,
                Err(e) => break Some(format!("the transfer broke after {at} bytes: {e}")),
            };
            file.write_all(&buffer[..count]).map_err(written(part, whole.unwrap_or(0).saturating_sub(at)))?;
            at += count as u64;
            run.send(Event::Advanced(at));
        };
        run.send(Event::Finished);
        file.sync_all().map_err(written(part, 0))?;
        let short = whole.filter(|&whole| whole != at);
        Ok(match (broken, short) {
            (Some(problem), _) => Attempt::Broken(problem),
            (None, Some(whole)) => Attempt::Broken(format!("the transfer ended after {at} of {whole} bytes")),
            (None, None) => Attempt::Whole { continued: begin > 0 },
        })
    }
}

/// The unfinished file's name.
pub(crate) fn part(path: &Path) -> std::path::PathBuf {
    beside(path, ".part")
}

/// The name of the note beside the unfinished file.
pub(crate) fn note(path: &Path) -> std::path::PathBuf {
    beside(path, ".part.json")
}

enum Attempt {
    Whole { continued: bool },
    Broken(String),
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Waits, and wakes at once if the preparation is to stop.
fn pause(time: Duration, run: Run<'_>) -> Result<()> {
    let end = std::time::Instant::now() + time;
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        run.check()?;
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    run.check()
}

/// Whether the same request may succeed later.
fn passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY
        )
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// First byte and total size of `Content-Range: bytes 10-99/100`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, total) = text(headers, "content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last + 1 == total).then_some((first, total))
}

/// A validator that `If-Range` accepts: an entity tag that is not weak, else the date of the last change.
fn strong_validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, "etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| text(headers, "last-modified")).map(str::to_owned)
}
