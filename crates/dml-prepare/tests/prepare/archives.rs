//! Archives made to do harm, and those that are as they should be.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use dml_prepare::{PrepareError, Run, unpack, unpack_nested};
use tempfile::TempDir;

fn run<T>(work: impl FnOnce(Run<'_>) -> T) -> T {
    work(Run { events: &|_| (), stop: &AtomicBool::new(false) })
}

/// Unpacks an archive of these bytes with a limit of 10 000 bytes and expects a refusal that says `word`, with nothing
/// written outside the folder.
fn refused(name: &str, archive: &[u8], word: &str) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, archive).unwrap();
    let into = dir.path().join("into");
    let error = run(|run| unpack(&path, &into, 10_000, run)).unwrap_err();
    assert!(matches!(error, PrepareError::Archive { .. }), "{error}");
    assert!(
        error.to_string().contains(word) && error.to_string().contains(name),
        "\"{error}\" without {word}"
    );
    let outside = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(outside.into_iter().all(|found| found == name || found == "into"), "{name} wrote outside");
    std::fs::create_dir_all(&into).unwrap();
    let size: u64 = crate::common::tree(&into).iter().map(|(_, content)| content.len() as u64).sum();
    assert!(size <= 10_000, "{name} wrote {size} bytes");
}

/// A tar with one entry, whose name is written as it is.
fn tar_entry(name: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, content).unwrap();
    archive.into_inner().unwrap()
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A rar archive (version 4, stored) of files.
fn rar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let block = |header: Vec<u8>| {
        let mut crc = flate2::Crc::new();
        crc.update(&header);
        [(crc.sum() as u16).to_le_bytes().to_vec(), header].concat()
    };
    let mut bytes = b"Rar!\x1a\x07\x00".to_vec();
    bytes.extend(block([vec![0x73], vec![0, 0], 13u16.to_le_bytes().to_vec(), vec![0; 6]].concat()));
    for (name, content) in files {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let size = (content.len() as u32).to_le_bytes();
        let header = [
            &[0x74][..],
            &0x8000u16.to_le_bytes(),
            &(32 + name.len() as u16).to_le_bytes(),
            &size,
            &size,
            &[3],
            &crc.sum().to_le_bytes(),
            &[0; 4],
            &[20, 0x30],
            &(name.len() as u16).to_le_bytes(),
            &0o100_644u32.to_le_bytes(),
            name.as_bytes(),
        ];
        bytes.extend(block(header.concat()));
        bytes.extend(*content);
    }
    bytes.extend(block(vec![0x7b, 0, 0x40, 7, 0]));
    bytes
}

#[test]
fn entries_outside_the_folder_are_refused() {
    use tar::EntryType::Regular;
    for name in ["../evil", "a/../../evil", "/tmp/dml-evil", "a\\..\\..\\evil"] {
        refused("slip.tar", &tar_entry(name, Regular, "", b"x"), "outside");
        refused("slip.zip", &zip_of(&[(name, b"x")]), "outside");
    }
}

#[test]
fn links_and_devices_are_refused() {
    use tar::EntryType::{Char, Link, Symlink};
    refused("symlink.tar", &tar_entry("a", Symlink, "../..", b""), "link");
    refused("hardlink.tar", &tar_entry("a", Link, "/etc/passwd", b""), "link");
    refused("device.tar", &tar_entry("a", Char, "", b""), "device");
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.add_symlink("a", "../..", zip::write::SimpleFileOptions::default()).unwrap();
    refused("symlink.zip", &archive.finish().unwrap().into_inner(), "link");
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 5_000_000];
    let zip = zip_of(&[("a", &zeros)]);
    assert!(zip.len() < 10_000);
    refused("bomb.zip", &zip, "more than 10.00 kB");
    // The same with headers that state 10 bytes: the central one is what readers go by.
    let mut lying = zip;
    let stated = 5_000_000u32.to_le_bytes();
    let places: Vec<usize> = (0..lying.len() - 3).filter(|&at| lying[at..at + 4] == stated).collect();
    assert!(!places.is_empty());
    for at in places {
        lying[at..at + 4].copy_from_slice(&10u32.to_le_bytes());
    }
    refused("lying.zip", &lying, "damaged");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&tar_entry("a", tar::EntryType::Regular, "", &zeros)).unwrap();
    refused("bomb.tar.gz", &packed.finish().unwrap(), "more than 10.00 kB");
}

#[test]
fn damaged_archives_are_refused() {
    let zip = zip_of(&[("a", b"hello"), ("b", b"more")]);
    refused("cut.zip", &zip[..zip.len() / 2], "damaged");
    let tar = tar_entry("a", tar::EntryType::Regular, "", &[1; 3000]);
    refused("cut.tar", &tar[..1500], "damaged");
    refused("text.tar", b"this is no archive at all", "no archive");
    refused("twice.tar", &crate::common::tar(&[("a".into(), vec![1]), ("a".into(), vec![2])]), "twice");
}

#[test]
fn what_is_as_it_should_be_is_unpacked() {
    let files = [("a/b.txt", &b"one"[..]), ("a/c d.txt", b"two"), ("e.avi", b"")];
    let owned: Vec<(String, Vec<u8>)> =
        files.iter().map(|(name, content)| ((*name).into(), content.to_vec())).collect();
    let tar = crate::common::tar(&owned);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).unwrap();
    // The names of archives say nothing; their first bytes do.
    for archive in [tar, packed.finish().unwrap(), zip_of(&files)] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("archive");
        std::fs::write(&path, archive).unwrap();
        run(|run| unpack(&path, &dir.path().join("into"), 10_000, run)).unwrap();
        let found = crate::common::tree(&dir.path().join("into"));
        let expected: Vec<_> = owned.iter().map(|(name, content)| (name.into(), content.clone())).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn rar_in_rar_is_unpacked() {
    if !rar_is_here("rar_in_rar_is_unpacked") {
        return;
    }
    let inner = rar_of(&[("clap/#1_[x]_&;_clap_f.avi", b"video one"), ("clap/two.avi", b"video two")]);
    let outer = rar_of(&[("clap.rar", &inner), ("wave.rar", &rar_of(&[("wave/three.avi", b"3")]))]);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("hmdb51_org.rar");
    std::fs::write(&path, &outer).unwrap();
    let into = dir.path().join("into");
    run(|run| unpack_nested(&path, &into, 10_000, run)).unwrap();
    let found: Vec<_> =
        crate::common::tree(&into).into_iter().map(|(name, content)| (name, content.len())).collect();
    let expected = [("clap/#1_[x]_&;_clap_f.avi", 9), ("clap/two.avi", 9), ("wave/three.avi", 1)];
    assert_eq!(found, expected.map(|(name, size)| (Path::new(name).to_owned(), size)));
    // The limit holds for the inner archives too.
    let error = run(|run| unpack_nested(&path, &dir.path().join("small"), outer.len() as u64 - 100, run));
    assert!(error.is_err());
}

/// With RARLAB's own program, whose archives are compressed and of version 5.
#[test]
fn rar_in_rar_of_the_original_program_is_unpacked() {
    let test = "rar_in_rar_of_the_original_program_is_unpacked";
    if !rar_is_here(test) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let rar = |archive: &str, what: &[&str]| {
        let mut command = std::process::Command::new("rar");
        command.current_dir(dir.path()).args(["a", "-idq", archive]).args(what).status()
    };
    let files = [("clap/#1_[x]_&;_clap_f.avi", 5000), ("wave/one.avi", 60_000), ("wave/two.avi", 60_000)];
    for (name, size) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, (0..size).map(|i: u32| (i / 7 * i % 251) as u8).collect::<Vec<_>>()).unwrap();
    }
    match rar("clap.rar", &["clap"]) {
        Ok(status) if status.success() => {}
        _ => return eprintln!("{test}: left out, because the program rar is not installed"),
    }
    assert!(rar("wave.rar", &["wave"]).unwrap().success());
    assert!(rar("hmdb51_org.rar", &["clap.rar", "wave.rar"]).unwrap().success());
    let (path, into) = (dir.path().join("hmdb51_org.rar"), dir.path().join("into"));
    run(|run| unpack_nested(&path, &into, 1_000_000, run)).unwrap();
    for (name, _) in files {
        let (found, expected) = (std::fs::read(into.join(name)), std::fs::read(dir.path().join(name)));
        assert!(found.unwrap() == expected.unwrap(), "{name}");
    }
}

#[test]
fn rar_archives_that_do_harm_are_refused() {
    if !rar_is_here("rar_archives_that_do_harm_are_refused") {
        return;
    }
    refused("large.rar", &rar_of(&[("a", &[0; 50_000])]), "more than 10.00 kB");
    let rar = rar_of(&[("a", b"some content")]);
    refused("cut.rar", &rar[..rar.len() - 15], "damaged");
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("slip.rar");
    std::fs::write(&path, rar_of(&[("../evil", b"x")])).unwrap();
    // Some programs refuse the entry, some drop the dots; none may write outside.
    let _ = run(|run| unpack(&path, &dir.path().join("into"), 10_000, run));
    assert!(!dir.path().join("evil").exists());
}

fn rar_is_here(test: &str) -> bool {
    let here = dml_prepare::rar_available();
    if !here {
        eprintln!(
            "{test}: left out, because neither the feature rar is on nor a program for rar is installed"
        );
    }
    here
}
