//! Decoding, in a process of its own: media files are strangers too.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use image::RgbImage;

use crate::{PrepareError, Result};

/// Containers that the datasets use. Others, such as playlists that name further files, are not opened at all.
const FORMATS: &str = "avi,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegvideo,flv,asf,ogg";

/// The program that decodes videos.
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    version: String,
    passthrough: [&'static str; 2],
    time_limit: Duration,
}

/// Which of a video's frames are wanted, counted from 0 in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// All of them.
    All,
    /// Those of all clips that start at the multiples of `interval`.
    Clips {
        /// Frames from the start of one clip to that of the next.
        interval: u32,
        /// Frames in a clip.
        count: u32,
        /// Frames from one of the clip to the next.
        stride: u32,
    },
}

impl Select {
    /// Whether it takes frame `number`.
    pub fn takes(self, number: u32) -> bool {
        match self {
            Self::All => true,
            Self::Clips { interval, count, stride } => (0..=number / interval)
                .map(|clips_ago| number % interval + clips_ago * interval)
                .take_while(|&offset| offset <= (count - 1) * stride)
                .any(|offset| offset % stride == 0),
        }
    }

    /// The same as a filter of ffmpeg. Clips may overlap: one term for each clip that a frame may belong to.
    fn filter(self) -> String {
        let Self::Clips { interval, count, stride } = self else { return "null".into() };
        let last = (count - 1) * stride;
        let term = |shift: u32| {
            let offset = format!("(mod(n,{interval})+{shift})");
            format!("gte(n,{shift})*lte({offset},{last})*not(mod({offset},{stride}))")
        };
        let terms: Vec<String> = (0..=last).step_by(interval as usize).map(term).collect();
        format!("select='{}'", terms.join("+"))
    }
}

/// Why a video gave no frames, or not all.
#[derive(Debug)]
pub enum Unreadable {
    /// It is the video's fault: the reason, in words.
    Video(String),
    /// It is not.
    Other(PrepareError),
}

impl From<PrepareError> for Unreadable {
    fn from(error: PrepareError) -> Self {
        Self::Other(error)
    }
}

impl Ffmpeg {
    /// Looks for `ffmpeg` among the system's programs. A file may take five minutes.
    ///
    /// # Errors
    /// If it is not there or does not run, with advice.
    pub fn find() -> Result<Self> {
        let missing = |e: &dyn std::fmt::Display| {
            PrepareError::Ffmpeg(format!(
                "ffmpeg, which decodes the videos, does not start ({e}); install it (Debian and Ubuntu: `apt-get \
                 install ffmpeg`, macOS: `brew install ffmpeg`, otherwise https://ffmpeg.org/download.html)"
            ))
        };
        let output = Command::new("ffmpeg").arg("-version").stdin(Stdio::null()).output();
        let output = output.map_err(|e| missing(&e))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next().and_then(|line| line.strip_prefix("ffmpeg version "));
        let version = version.and_then(|rest| rest.split(' ').next());
        let Some(version) = version.filter(|_| output.status.success()) else {
            return Err(missing(&"it states no version"));
        };
        Ok(Self {
            version: version.to_owned(),
            passthrough: if before_5_1(version) {
                ["-vsync", "passthrough"]
            } else {
                ["-fps_mode", "passthrough"]
            },
            time_limit: Duration::from_secs(300),
        })
    }

    /// The same with another time that one file may take.
    pub fn with_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Its version, such as `5.1.9-0+deb12u1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Decodes a video's wanted frames, in order, at its own size, as ffmpeg converts them to `rgb24`, and gives how many
    /// there were. `each` gets a frame at a time, so that memory does not grow with the video.
    ///
    /// # Errors
    /// [`Unreadable::Video`] for a video that is empty, cut short, of no known format, without a video stream, or slower
    /// than the time limit. A damaged frame within a whole file is shown as ffmpeg conceals it.
    pub fn frames(
        &self,
        video: &Path,
        select: Select,
        stop: &AtomicBool,
        mut each: impl FnMut(RgbImage) -> Result<()>,
    ) -> std::result::Result<usize, Unreadable> {
        whole(video)?;
        let mut child = self.start(video, select)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(mut stderr)) = (stdout, stderr) else {
            return Err(Unreadable::Video("ffmpeg has no pipes".into()));
        };
        let child = Mutex::new(child);
        let (done, late) = (AtomicBool::new(false), AtomicBool::new(false));
        let began = Instant::now();
        let (read, complaint) = std::thread::scope(|scope| {
            let complaint = scope.spawn(move || {
                let mut text = Vec::new();
                // Enough to say what is wrong; the rest is read, so that ffmpeg does not wait, and dropped.
                let _ = stderr.by_ref().take(4096).read_to_end(&mut text);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
                String::from_utf8_lossy(&text).into_owned()
            });
            let watch = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let slow = began.elapsed() > self.time_limit;
                    if slow || stop.load(Ordering::Relaxed) {
                        late.store(slow, Ordering::Release);
                        end(&child);
                        return;
                    }
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            });
            let read = read_frames(stdout, &mut each);
            if read.is_err() {
                end(&child);
            }
            done.store(true, Ordering::Release);
            watch.thread().unpark();
            (read, complaint.join().unwrap_or_default())
        });
        let status = child.into_inner().unwrap_or_else(|e| e.into_inner()).wait();
        if late.load(Ordering::Acquire) {
            let seconds = self.time_limit.as_secs_f64();
            return Err(Unreadable::Video(format!(
                "not decoded after {seconds:.0} s, the time limit for a file"
            )));
        }
        if stop.load(Ordering::Relaxed) {
            return Err(PrepareError::Interrupted.into());
        }
        let frames = read?;
        let succeeded = status.is_ok_and(|status| status.success());
        if !succeeded || frames == 0 {
            return Err(Unreadable::Video(reason(&complaint)));
        }
        Ok(frames)
    }

    fn start(&self, video: &Path, select: Select) -> std::result::Result<Child, PrepareError> {
        // `file:` keeps names with a colon or a leading dash from being read as something else.
        let mut input = std::ffi::OsString::from("file:");
        input.push(std::path::absolute(video).map_err(crate::error::io(video))?);
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1"]);
        command.args(["-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-i"]).arg(input);
        // A portable pixmap is a short header and the raw rgb24 values.
        command.args(["-map", "0:v:0", "-vf", &select.filter()]).args(self.passthrough);
        command.args(["-threads", "1", "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own, so that Ctrl-C reaches us alone, and no video is blamed for it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map_err(|e| PrepareError::Ffmpeg(format!("ffmpeg does not start: {e}")))
    }
}

fn end(child: &Mutex<Child>) {
    let _ = child.lock().unwrap_or_else(|e| e.into_inner()).kill();
}

/// Whether `-fps_mode` is unknown to this version. A build between releases has a name such as `N-112233-gabc`.
fn before_5_1(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('n').split(|c: char| !c.is_ascii_digit());
    let major: Option<u32> = numbers.next().and_then(|digits| digits.parse().ok());
    let minor: u32 = numbers.next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    major.is_some_and(|major| (major, minor) < (5, 1))
}

/// Refuses what need not be tried: an empty file, or one shorter than its own header says. ffmpeg would decode the
/// beginning and be content.
fn whole(video: &Path) -> std::result::Result<(), Unreadable> {
    let unreadable = |e: std::io::Error| Unreadable::Video(e.to_string());
    let file = std::fs::File::open(video).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length == 0 {
        return Err(Unreadable::Video("the file is empty".into()));
    }
    let mut head = Vec::new();
    file.take(8).read_to_end(&mut head).map_err(unreadable)?;
    if let [b'R', b'I', b'F', b'F', a, b, c, d] = head[..] {
        let stated = u64::from(u32::from_le_bytes([a, b, c, d])) + 8;
        if stated > length {
            return Err(Unreadable::Video(format!(
                "cut short: {length} bytes of the {stated} its header states"
            )));
        }
    }
    Ok(())
}

/// What ffmpeg complained of, without its addresses in memory.
fn reason(complaint: &str) -> String {
    let line = complaint.lines().map(str::trim).find(|line| !line.is_empty());
    let Some(line) = line else { return "no frame could be decoded".into() };
    if line.contains("matches no streams") {
        return "no video stream in it".into();
    }
    let line = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(line, |(_, text)| text);
    format!("ffmpeg: {line}")
}

fn read_frames(stdout: ChildStdout, each: &mut impl FnMut(RgbImage) -> Result<()>) -> Result<usize> {
    let mut stream = BufReader::with_capacity(1 << 18, stdout);
    let mut frames = 0;
    while let Some(frame) = read_pixmap(&mut stream) {
        each(frame)?;
        frames += 1;
    }
    Ok(frames)
}

/// One binary portable pixmap with 8-bit values, as ffmpeg writes it; none at the end, or where it is cut short.
fn read_pixmap(stream: &mut impl BufRead) -> Option<RgbImage> {
    let mut header = Vec::new();
    for _ in 0..3 {
        stream.read_until(b'\n', &mut header).ok()?;
    }
    let header = String::from_utf8(header).ok()?;
    let mut words = header.split_ascii_whitespace();
    let (magic, width, height, max) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if magic != "P6" || max != "255" {
        return None;
    }
    let (width, height): (u32, u32) = (width.parse().ok()?, height.parse().ok()?);
    let mut pixels = vec![0; (width as usize).checked_mul(height as usize)?.checked_mul(3)?];
    stream.read_exact(&mut pixels).ok()?;
    RgbImage::from_raw(width, height, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |version, expected| assert_eq!(before_5_1(version), expected, "{version}");
        check("4.4.2-0ubuntu0.22.04.1", true);
        check("5.0.1", true);
        check("5.1.9-0+deb12u1", false);
        check("n7.0", false);
        check("N-112233-gabcdef", false);
        check("10.1", false);
    }

    #[test]
    fn frames_of_clips() {
        let check = |interval, count, stride, until, expected: &[u32]| {
            let select = Select::Clips { interval, count, stride };
            assert_eq!((0..until).filter(|&n| select.takes(n)).collect::<Vec<_>>(), expected, "{select:?}");
        };
        check(10, 3, 2, 25, &[0, 2, 4, 10, 12, 14, 20, 22, 24]);
        check(4, 3, 3, 12, &[0, 3, 4, 6, 7, 8, 10, 11]);
        check(1, 1, 1, 3, &[0, 1, 2]);
        let every = Select::Clips { interval: 150, count: 16, stride: 3 };
        assert_eq!(every.filter(), "select='gte(n,0)*lte((mod(n,150)+0),45)*not(mod((mod(n,150)+0),3))'");
    }
}
