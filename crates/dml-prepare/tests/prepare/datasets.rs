//! Whole preparations: each layout, interruptions, and what is there in the end.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Server, ffmpeg_is_here, head, impatient, manifest, prepare, tar, tree, voc};
use dml_data::shards::{Reader, ShardOptions};
use dml_prepare::{Event, Manifest, Name, Options, Outcome, PrepareError, Run, Summary};
use tempfile::TempDir;

/// The manifest of the repository.
fn published(name: Name) -> Manifest {
    Manifest::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../data/{name}.toml"))).unwrap()
}

fn from(data: &Path, folder: &Path) -> Options {
    let mut options = Options::new(data);
    options.from = Some(folder.into());
    options.network.patience = impatient();
    options
}

fn write(root: &Path, files: &[(String, Vec<u8>)]) {
    for (name, content) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

fn prepared(manifest: &Manifest, options: &Options) -> Summary {
    match prepare(manifest, options).0.unwrap() {
        Outcome::Prepared(summary) => summary,
        other => panic!("it was not prepared before: {other:?}"),
    }
}

#[test]
fn voc_from_a_folder() {
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write(root.path(), &voc(23));
    let manifest = published(Name::Voc2007);
    let (done, events) = prepare(&manifest, &from(data.path(), root.path()));
    let Outcome::Prepared(summary) = done.unwrap() else { panic!("it was not there") };
    assert_eq!((summary.samples, summary.items), (23, 23));
    assert!(summary.differences.contains(&"train: 23 here, 2501 officially".into()), "{summary:?}");
    assert!(summary.differences.contains(&"test: none here, 4952 officially".into()), "{summary:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Note(note) if note.contains("no test here"))));
    let reader = Reader::open(&data.path().join("voc2007/shards")).unwrap();
    let meta = reader.meta(20).unwrap();
    assert_eq!(
        (&meta["video"], &meta["flags"][0], &meta["flags"][1]),
        (&"000020".into(), &1.into(), &(-1).into())
    );
    assert_eq!(meta["splits"], serde_json::json!(["train", "trainval"]));
    let image = image::load_from_memory(reader.frame(20, 0).unwrap()).unwrap();
    assert_eq!(image.height(), 256);
    assert!(data.path().join("voc2007/ImageSets/Main/cow_train.txt").is_file());
}

#[test]
fn flickr8k_from_a_folder_keeps_images_of_the_right_size() {
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let small = crate::common::jpeg(300, 256, 1);
    let captions = "a.jpg#0\tOne .\na.jpg#1\tTwo .\nb.jpg#0\tThree\nc.jpg#0\tFour\n2258277193_586949ec62.jpg.1#0\tNo image\n";
    write(
        root.path(),
        &[
            ("Flicker8k_Dataset/a.jpg".into(), small.clone()),
            ("Flicker8k_Dataset/b.jpg".into(), crate::common::jpeg(400, 300, 2)),
            ("Flicker8k_Dataset/c.jpg".into(), small[..small.len() / 2].to_vec()),
            ("__MACOSX/Flicker8k_Dataset/._a.jpg".into(), vec![0; 10]),
            ("text/Flickr8k.token.txt".into(), captions.into()),
            ("text/Flickr_8k.trainImages.txt".into(), b"b.jpg\na.jpg\n".to_vec()),
            ("text/Flickr_8k.devImages.txt".into(), b"c.jpg\n".to_vec()),
        ],
    );
    let mut options = from(data.path(), root.path());
    options.failures = 50.0;
    let summary = prepared(&published(Name::Flickr8k), &options);
    assert_eq!((summary.samples, summary.failures.len()), (2, 1));
    assert!(summary.failures[0].1.contains("cut short"), "{summary:?}");
    let reader = Reader::open(&data.path().join("flickr8k/shards")).unwrap();
    assert_eq!(reader.frame(0, 0).unwrap(), small, "an image of the right size is kept byte for byte");
    assert_eq!(reader.meta(0).unwrap()["captions"], serde_json::json!(["One .", "Two ."]));
}

#[test]
fn hmdb51_from_a_tree_with_names_that_harm() {
    if !ffmpeg_is_here("hmdb51_from_a_tree_with_names_that_harm") {
        return;
    }
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let videos = [
        "climb/#20_$(rm -rf)_`x`_climb_f_cm_np1_fr_med_0.avi".replace(' ', "-"),
        "climb/-y_climb_f_cm_np1_fr_med_1.avi".into(),
        "climb_stairs/Geena;-)_[HD]&_climb_stairs_f_cm_np1_fr_med_2.avi".into(),
    ];
    for video in &videos {
        let path = root.path().join("hmdb51").join(video);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let status = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25"])
            .args(["-frames:v", "50", "-c:v", "mpeg4", "-f", "avi", "-y"])
            .arg(format!("file:{}", path.display()))
            .status();
        assert!(status.unwrap().success());
    }
    for class in ["climb", "climb_stairs"] {
        let of_class = videos.iter().filter(|video| video.starts_with(&format!("{class}/")));
        let lines: String = of_class
            .zip([1, 2])
            .map(|(video, flag)| format!("{} {flag} \n", video.split_once('/').unwrap().1))
            .collect();
        for split in 1..=3 {
            let path = format!("splits/{class}_test_split{split}.txt");
            write(root.path(), &[(path, lines.clone().into_bytes())]);
        }
    }
    let summary = prepared(&published(Name::Hmdb51), &from(data.path(), root.path()));
    assert_eq!((summary.samples, summary.failures.len()), (3, 0));
    let reader = Reader::open(&data.path().join("hmdb51/shards")).unwrap();
    let ids: Vec<String> =
        (0..3).map(|n| reader.meta(n).unwrap()["video"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, videos);
    assert_eq!(reader.meta(2).unwrap()["label"], 1);
}

#[test]
fn youtube2text_from_a_folder_of_the_hub() {
    let Some(real) = std::env::var_os("DML_REAL_DATA").map(PathBuf::from) else {
        eprintln!("youtube2text_from_a_folder_of_the_hub: left out, because DML_REAL_DATA is not set");
        return;
    };
    if !ffmpeg_is_here("youtube2text_from_a_folder_of_the_hub") {
        return;
    }
    // As the hub has it: no mapping, which is made from the captions.
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let real = real.join("YouTube2Text");
    let clip = "Jag7oTemldY_12_25.avi";
    std::fs::create_dir_all(root.path().join("raw_videos")).unwrap();
    std::fs::copy(real.join("YouTubeClips").join(clip), root.path().join("raw_videos").join(clip)).unwrap();
    std::fs::copy(real.join("AllVideoDescriptions.txt"), root.path().join("AllVideoDescriptions.txt"))
        .unwrap();
    let summary = prepared(&published(Name::Youtube2text), &from(data.path(), root.path()));
    assert_eq!(summary.differences, ["videos: 1 here, 1970 officially"]);
    let ours = std::fs::read_to_string(data.path().join("youtube2text/youtube_mapping.txt")).unwrap();
    let theirs = std::fs::read_to_string(real.join("youtube_mapping.txt")).unwrap();
    assert!(ours.lines().eq(theirs.lines()), "the mapping is not the published one");
}

#[test]
fn an_archive_given_by_name() {
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = root.path().join("mine.tar");
    std::fs::write(&archive, tar(&voc(5))).unwrap();
    let summary = prepared(&published(Name::Voc2007), &from(data.path(), &archive));
    assert_eq!(summary.samples, 5);
    assert!(archive.is_file() && !data.path().join("voc2007/source").exists());
    // Under its published name it must be what was published.
    let named = root.path().join("VOCtrainval_06-Nov-2007.tar");
    std::fs::rename(&archive, &named).unwrap();
    let other = TempDir::new().unwrap();
    let error = prepare(&published(Name::Voc2007), &from(other.path(), &named)).0.unwrap_err();
    assert!(matches!(error, PrepareError::Checksum { .. }), "{error}");
}

#[test]
fn a_folder_without_the_dataset_is_an_error_that_says_what_is_missing() {
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write(root.path(), &[("VOCdevkit/VOC2012/readme".into(), vec![1])]);
    let text = format!(
        "{}[[parts]]\nname = \"trainval\"\nunpacked_max = 1\n[[parts.sources]]\nurl = \"http://127.0.0.1:9/x.tar\"\n[expected]\n",
        head("voc2012")
    );
    let error =
        prepare(&manifest(data.path(), &text), &from(data.path(), root.path())).0.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:9") && error.contains("refused"), "{error}");
}

const IMAGES: u32 = 60;

/// Options and manifest of the preparation that is killed: small shards, so that there are several.
fn killable(data: &Path, address: &str) -> (Manifest, Options) {
    let text = format!(
        "{}[[parts]]\nname = \"trainval\"\nunpacked_max = 100_000_000\n[[parts.sources]]\nurl = \"{address}/VOC.tar\"\n[expected]\n",
        head("voc2007")
    );
    std::fs::create_dir_all(data).unwrap();
    let mut options = Options::new(data);
    options.jobs = 2;
    options.quality = 90;
    options.shards = ShardOptions { max_bytes: 200_000 };
    options.network.patience = impatient();
    (manifest(data, &text), options)
}

/// Not a test of its own: the process that [`killed_at_any_point_it_ends_right`] starts and kills.
#[test]
#[ignore = "started by another test"]
fn process_to_be_killed() {
    let Some(data) = std::env::var_os("DML_TEST_DATA").map(PathBuf::from) else { return };
    let (manifest, options) = killable(&data, &std::env::var("DML_TEST_ADDRESS").unwrap());
    prepare(&manifest, &options).0.unwrap();
}

/// Kills a preparation with SIGKILL at random points of its course, again and again, and lets it end then. The number
/// of kills is 4, or that of the environment variable DML_TEST_KILLS.
#[test]
fn killed_at_any_point_it_ends_right() {
    let archive = tar(&voc(IMAGES));
    let server = Server::start(move |request, _, stream| {
        // Slowly, so that kills meet transfers too.
        let mut whole = Vec::new();
        let mut paced = std::net::TcpStream::try_clone(stream).unwrap();
        serve_into(&mut whole, request, &archive);
        for piece in whole.chunks(whole.len() / 20 + 1) {
            if paced.write_all(piece).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let dir = TempDir::new().unwrap();
    let start = |data: &Path| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "datasets::process_to_be_killed", "--ignored", "--quiet"])
            .env("DML_TEST_DATA", data)
            .env("DML_TEST_ADDRESS", &server.address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let began = Instant::now();
    assert!(start(&dir.path().join("whole")).wait().unwrap().success());
    let whole = began.elapsed();
    let expected = tree(&dir.path().join("whole/voc2007"));
    assert!(expected.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "tar")).count() > 3);

    let kills: u32 = std::env::var("DML_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut random = 20_18u64;
    let mut fresh = 0;
    let mut data = dir.path().join("killed-0");
    let mut met = std::collections::BTreeMap::new();
    for kill in 0..kills {
        let mut child = start(&data);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(whole.mul_f64((random >> 33) as f64 / f64::from(1u32 << 31)));
        let _ = child.kill();
        let ended = child.wait().unwrap().success();
        *met.entry(stage(&data.join("voc2007"))).or_insert(0) += 1;
        // A finished set, or every third kill, is looked at and another begun.
        if ended || kill % 3 == 2 {
            assert!(start(&data).wait().unwrap().success());
            alike(&tree(&data.join("voc2007")), &expected);
            fresh += 1;
            data = dir.path().join(format!("killed-{fresh}"));
        }
    }
    assert!(start(&data).wait().unwrap().success());
    alike(&tree(&data.join("voc2007")), &expected);
    let left = tree(&data).into_iter().map(|(path, _)| path.display().to_string());
    let odd: Vec<String> = left.filter(|path| path.contains(".tmp") || path.contains(".part")).collect();
    assert!(odd.is_empty(), "{odd:?}");
    eprintln!("{kills} kills: {met:?}; every set as the one that was not killed");
}

fn serve_into(out: &mut Vec<u8>, request: &crate::common::Request, content: &[u8]) {
    let first = request.range.filter(|_| request.if_range.as_deref() == Some("\"v\"")).unwrap_or(0) as usize;
    let status = if first > 0 { "206 Partial Content" } else { "200 OK" };
    let range = format!("Content-Range: bytes {first}-{}/{}\r\n", content.len() - 1, content.len());
    let range = if first > 0 { range } else { String::new() };
    let length = content.len() - first;
    let head = format!(
        "HTTP/1.1 {status}\r\nETag: \"v\"\r\nConnection: close\r\n{range}Content-Length: {length}\r\n\r\n"
    );
    out.extend(head.as_bytes());
    out.extend(&content[first..]);
}

type Files = Vec<(PathBuf, Vec<u8>)>;

fn alike(found: &Files, expected: &Files) {
    let lacks = |of: &Files, other: &Files| -> Vec<PathBuf> {
        of.iter().filter(|file| !other.contains(file)).map(|(path, _)| path.clone()).collect()
    };
    let (more, less) = (lacks(found, expected), lacks(expected, found));
    assert!(more.is_empty() && less.is_empty(), "the set has {more:?} and lacks {less:?}");
}

/// How far a preparation had come.
fn stage(dir: &Path) -> &'static str {
    let has = |path: &str| dir.join(path).exists();
    match () {
        () if has("shards/index.json") => "finished",
        () if has("shards") => "decoding",
        () if has("source/trainval") => "unpacked",
        () if has("source/trainval.part") => "unpacking",
        () if has("archives/VOC.tar") => "fetched",
        () if has("archives") => "fetching",
        () => "before",
    }
}

#[test]
fn told_to_stop_it_stops_and_continues_later() {
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write(root.path(), &voc(40));
    let mut options = from(data.path(), root.path());
    options.shards = ShardOptions { max_bytes: 200_000 };
    let manifest = published(Name::Voc2007);
    let stop = AtomicBool::new(false);
    let after = |event| {
        if matches!(event, Event::Advanced(25)) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let stopped = dml_prepare::prepare(&manifest, &options, Run { events: &after, stop: &stop });
    assert!(matches!(stopped, Err(PrepareError::Interrupted)));
    let (done, events) = prepare(&manifest, &options);
    assert!(matches!(done.unwrap(), Outcome::Prepared(summary) if summary.samples == 40));
    let from = events.iter().find_map(|event| match event {
        Event::Started { what, from, .. } if what.starts_with("decoding") => Some(*from),
        _ => None,
    });
    assert!(from.is_some_and(|from| (10..=25).contains(&from)), "continued at {from:?}");
    // Two at once would write the same files.
    let path = data.path().join("voc2007/.lock");
    let held = std::fs::File::create(&path).unwrap();
    fs4::FileExt::lock(&held).unwrap();
    assert!(matches!(prepare(&manifest, &options).0, Err(PrepareError::Busy(_))));
}

#[test]
fn nothing_depends_on_the_number_of_jobs() {
    let root = TempDir::new().unwrap();
    write(root.path(), &voc(30));
    let trees: Vec<_> = [1, 3]
        .map(|jobs| {
            let data = TempDir::new().unwrap();
            let mut options = from(data.path(), root.path());
            options.jobs = jobs;
            options.shards = ShardOptions { max_bytes: 200_000 };
            prepared(&published(Name::Voc2007), &options);
            tree(data.path())
        })
        .into_iter()
        .collect();
    assert!(trees[0] == trees[1]);
}

#[cfg(unix)]
#[test]
fn parts_prepared_at_the_same_time_make_the_set_of_one_preparation() {
    let (root, whole, parts) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let archive = root.path().join("mine.tar");
    std::fs::write(&archive, tar(&voc(23))).unwrap();
    let manifest = published(Name::Voc2007);
    let expected = prepared(&manifest, &from(whole.path(), &archive));
    let of = |text: &str| Options { part: Some(text.parse().unwrap()), ..from(parts.path(), &archive) };
    // A part by itself does not make a set, however often it is asked for.
    for _ in 0..2 {
        let Outcome::Part(summary, missing) = prepare(&manifest, &of("2/3")).0.unwrap() else { panic!() };
        assert_eq!((summary.samples, missing), (8, vec![1, 3]));
    }
    let shards = parts.path().join("voc2007/shards");
    assert!(!Reader::is_finished(&shards) && parts.path().join("voc2007/source").exists());
    let refused = |options: Options, word: &str| {
        let error = prepare(&manifest, &options).0.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(from(parts.path(), &archive), "divided otherwise");
    refused(of("1/2"), "divided otherwise");
    refused(Options { quality: 50, ..of("1/3") }, "part 2 of 3 was prepared with");
    // The others at the same time: one of them merges.
    let ended: Vec<Outcome> = std::thread::scope(|scope| {
        let (manifest, of) = (&manifest, &of);
        let start = |part| scope.spawn(move || prepare(manifest, &of(part)).0.unwrap());
        ["1/3", "3/3"].map(start).into_iter().map(|part| part.join().unwrap()).collect()
    });
    assert!(ended.contains(&Outcome::Prepared(expected.clone())), "{ended:?}");
    assert_eq!(prepare(&manifest, &of("1/3")).0.unwrap(), Outcome::Already(expected.clone()));
    assert_eq!(dml_prepare::verify(&manifest, parts.path()).unwrap(), expected);
    let open = |data: &Path| Reader::open(&data.join("voc2007/shards")).unwrap();
    let (one, merged) = (open(whole.path()), open(parts.path()));
    assert_eq!((one.len(), merged.len(), one.metadata()), (23, 23, merged.metadata()));
    for sample in 0..one.len() {
        assert_eq!(one.key(sample), merged.key(sample));
        assert_eq!(one.frame(sample, 0).unwrap(), merged.frame(sample, 0).unwrap());
        assert_eq!(one.meta(sample).unwrap(), merged.meta(sample).unwrap());
    }
    let left = std::fs::read_dir(&shards).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().ends_with(".json")).count(), 1);
}

#[test]
fn an_interrupted_program_says_so_and_continues() {
    let (root, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write(root.path(), &voc(300));
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepare-data"));
        command.args(["voc2007", "--jobs", "1", "--from"]).arg(root.path()).arg("--data").arg(data.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut child = program().spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("decoding")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let said: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
    assert!(said.iter().any(|line| line.contains("the same command continues")), "{said:?}");
    let output = program().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (said, told) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success() && said.contains("300 samples of 300 files"), "{said}{told}");
}
