//! One checkpoint: a folder that appears under its name only when all of it is on disk.
//!
//! `model.safetensors` has the parameters that are evaluated. Where these are a moving average, `trained.safetensors` has the
//! parameters that are trained, and where an average only teaches, `average.safetensors` has it.
//! `optimizer.safetensors` has Adam's moments and step counts as `<state>/<parameter>.<m|v|step>`, `recorded.safetensors` the
//! networks that record responses, `state.toml` the rest.
//! `state.toml` holds the CRC-32 of the other files, and its first line the CRC-32 of what follows it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use dml_model::{NetConfig, load_safetensors, save_safetensors};
use serde::{Deserialize, Serialize};

use super::{MODEL, Recorders, State};
use crate::responses::Recorder;
use crate::{Result, TrainError};

pub(super) const STATE: &str = "state.toml";
const OPTIMIZER: &str = "optimizer.safetensors";
/// The parameters that are trained, where the model is their average.
pub(crate) const TRAINED: &str = "trained.safetensors";
/// The average of the parameters, where it is not the model.
pub(crate) const AVERAGE: &str = "average.safetensors";
const RECORDED: &str = "recorded.safetensors";
const CHECK: &str = "# crc32 of what follows: ";

/// The contents of a checkpoint.
pub(crate) struct Contents {
    pub(crate) state: State,
    pub(crate) model: BTreeMap<String, Tensor>,
    /// The other of trained and averaged parameters, under the name of its file.
    pub(crate) other: Option<(&'static str, BTreeMap<String, Tensor>)>,
    pub(crate) optimizer: BTreeMap<String, Tensor>,
    pub(crate) recorders: Recorders,
}

#[derive(Serialize, Deserialize)]
struct Written {
    files: BTreeMap<String, u32>,
    /// Which network of `recorded.safetensors` plays which part.
    recorded: Parts,
    state: State,
}

/// Networks by number, whose tensors are `net<number>/<parameter>`; probes, whose tensors are `probe<number>`.
#[derive(Default, Serialize, Deserialize)]
struct Parts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<usize>,
    #[serde(default)]
    kept: Vec<(String, String, usize)>,
    #[serde(default)]
    probes: Vec<(String, String)>,
}

/// Writes the files into a folder, which must exist, and syncs them.
pub(super) fn write(folder: &Path, contents: &Contents) -> Result<()> {
    let none = BTreeMap::new();
    save_safetensors(&folder.join(MODEL), &contents.model, &none)?;
    save_safetensors(&folder.join(OPTIMIZER), &contents.optimizer, &none)?;
    let (parts, tensors) = part(&contents.recorders);
    let mut names = vec![MODEL, OPTIMIZER];
    if let Some((name, tensors)) = &contents.other {
        save_safetensors(&folder.join(name), tensors, &none)?;
        names.push(name);
    }
    if !tensors.is_empty() {
        save_safetensors(&folder.join(RECORDED), &tensors, &none)?;
        names.push(RECORDED);
    }
    let files = names.iter().map(|&name| Ok((name.to_string(), sum(&folder.join(name))?)));
    let written =
        Written { files: files.collect::<Result<_>>()?, recorded: parts, state: contents.state.clone() };
    let text = toml::to_string(&written).map_err(|e| TrainError::invalid(e.to_string()))?;
    let text = format!("{CHECK}{:08x}\n{text}", crc32fast::hash(text.as_bytes()));
    let path = folder.join(STATE);
    let attempt = || {
        let mut file = File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    attempt().map_err(io(&path))
}

/// Reads the state alone, after checking that every file of the checkpoint is as it was written.
pub(super) fn check(folder: &Path) -> Result<State> {
    let written = read_state(folder)?;
    for (name, &expected) in &written.files {
        let path = folder.join(name);
        if sum(&path)? != expected {
            return Err(broken(&path, "its checksum is not the one it was written with"));
        }
    }
    Ok(written.state)
}

/// Reads a checkpoint that [`check`] has found whole.
pub(super) fn read(folder: &Path, net: &NetConfig, device: &Device) -> Result<Contents> {
    let Written { files, recorded, state } = read_state(folder)?;
    let load = |name: &str| Ok::<_, TrainError>(load_safetensors(&folder.join(name), device)?);
    let tensors = if files.contains_key(RECORDED) { load(RECORDED)? } else { BTreeMap::new() };
    let missing = |what: &str| broken(&folder.join(RECORDED), &format!("it has no {what}"));
    let mut nets: BTreeMap<usize, Arc<Recorder>> = BTreeMap::new();
    let mut recorder = |number: usize| -> Result<Arc<Recorder>> {
        if let Some(known) = nets.get(&number) {
            return Ok(known.clone());
        }
        let prefix = format!("net{number}/");
        let of_net: BTreeMap<String, Tensor> = tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone())))
            .collect();
        let made = Arc::new(Recorder::new(net, of_net, device)?);
        nets.insert(number, made.clone());
        Ok(made)
    };
    let current = recorded.current.map(&mut recorder).transpose()?;
    let kept = recorded.kept.into_iter().map(|(set, task, number)| Ok(((set, task), recorder(number)?)));
    let kept = kept.collect::<Result<_>>()?;
    let probes = recorded.probes.into_iter().enumerate().map(|(number, key)| {
        let name = format!("probe{number}");
        Ok((key, tensors.get(&name).ok_or_else(|| missing(&name))?.clone()))
    });
    let recorders = Recorders { current, kept, probes: probes.collect::<Result<_>>()? };
    let other = [TRAINED, AVERAGE].into_iter().find(|name| files.contains_key(*name));
    let other = other.map(|name| Ok::<_, TrainError>((name, load(name)?))).transpose()?;
    Ok(Contents { state, model: load(MODEL)?, other, optimizer: load(OPTIMIZER)?, recorders })
}

fn part(recorders: &Recorders) -> (Parts, BTreeMap<String, Tensor>) {
    let mut nets: Vec<&Arc<Recorder>> = Vec::new();
    let mut number = |recorder| match nets.iter().position(|known| Arc::ptr_eq(known, recorder)) {
        Some(number) => number,
        None => {
            nets.push(recorder);
            nets.len() - 1
        }
    };
    let current = recorders.current.as_ref().map(&mut number);
    let kept =
        recorders.kept.iter().map(|((set, task), net)| (set.clone(), task.clone(), number(net))).collect();
    let mut tensors = BTreeMap::new();
    for (number, net) in nets.iter().enumerate() {
        let named = net.tensors.iter().map(|(name, tensor)| (format!("net{number}/{name}"), tensor.clone()));
        tensors.extend(named);
    }
    for (number, tensor) in recorders.probes.values().enumerate() {
        tensors.insert(format!("probe{number}"), tensor.clone());
    }
    (Parts { current, kept, probes: recorders.probes.keys().cloned().collect() }, tensors)
}

fn read_state(folder: &Path) -> Result<Written> {
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).map_err(io(&path))?;
    let (check, body) = text.split_once('\n').unwrap_or_default();
    let expected = check.strip_prefix(CHECK).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    if expected != Some(crc32fast::hash(body.as_bytes())) {
        return Err(broken(&path, "its checksum is not the one it was written with"));
    }
    toml::from_str(body).map_err(|e| broken(&path, &e.to_string()))
}

fn sum(path: &Path) -> Result<u32> {
    let attempt = || {
        let mut file = File::open(path)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize()),
                n => hasher.update(&buffer[..n]),
            }
        }
    };
    attempt().map_err(io(path))
}

fn broken(path: &Path, problem: &str) -> TrainError {
    TrainError::Config { path: path.into(), problem: problem.into() }
}

pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> TrainError + '_ {
    move |source| TrainError::Io { path: path.into(), source }
}
