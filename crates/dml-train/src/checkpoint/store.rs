use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::Device;
use dml_model::NetConfig;

use super::folder::{self, Contents, io};
use super::{CHECKPOINTS, CheckpointConfig, MODEL, State, Which};
use crate::{Result, TrainError};

/// The checkpoints of a run: `checkpoints/step-<steps>` in its folder.
pub(crate) struct Store {
    run: PathBuf,
    config: CheckpointConfig,
}

impl Store {
    pub(crate) fn open(run: &Path, config: CheckpointConfig) -> Self {
        Self { run: run.into(), config }
    }

    pub(crate) fn config(&self) -> &CheckpointConfig {
        &self.config
    }

    /// Where the checkpoint after this many steps lies.
    pub(crate) fn place(&self, steps: usize) -> PathBuf {
        self.run.join(CHECKPOINTS).join(format!("step-{steps:08}"))
    }

    /// Writes a checkpoint, whole or not at all, and removes those that need not stay.
    pub(crate) fn save(&self, contents: &Contents) -> Result<PathBuf> {
        let all = self.run.join(CHECKPOINTS);
        fs::create_dir_all(&all).map_err(io(&all))?;
        let place = self.place(contents.state.steps);
        let temporary = all.join(format!(".{}.tmp", name(&place)));
        remove(&temporary)?;
        fs::create_dir(&temporary).map_err(io(&temporary))?;
        let written = folder::write(&temporary, contents).and_then(|()| replace(&temporary, &place));
        if let Err(error) = written {
            // The first error is the one to report.
            let _ = fs::remove_dir_all(&temporary);
            return Err(TrainError::NotSaved { path: place, source: Box::new(error) });
        }
        sync(&all)?;
        if contents.state.finished {
            self.publish(&place)?;
        }
        self.prune(&contents.state)?;
        Ok(place)
    }

    /// Tidies what a process that was killed while it saved has left. Only the process that works on the run may.
    pub(crate) fn recover(&self) -> Result<()> {
        for place in self.entries()? {
            let Some(left) = name(&place).strip_prefix('.').map(str::to_owned) else { continue };
            match left.strip_suffix(".old").map(|name| place.with_file_name(name)) {
                Some(current) if !current.exists() => fs::rename(&place, &current).map_err(io(&place))?,
                _ => remove(&place)?,
            }
        }
        Ok(())
    }

    /// The newest checkpoint that is whole; those that are not go to `complain`, with what is wrong.
    pub(crate) fn newest(
        &self,
        complain: &mut dyn FnMut(&Path, &TrainError),
    ) -> Result<Option<(PathBuf, State)>> {
        for place in self.all()?.into_iter().rev() {
            match folder::check(&place) {
                Ok(state) => return Ok(Some((place, state))),
                Err(error) => complain(&place, &error),
            }
        }
        Ok(None)
    }

    /// The checkpoint after this many steps, which must be whole.
    pub(crate) fn whole(&self, steps: usize) -> Result<(PathBuf, State)> {
        let place = self.place(steps);
        let state = folder::check(&place)?;
        Ok((place, state))
    }

    pub(crate) fn read(&self, place: &Path, net: &NetConfig, device: &Device) -> Result<Contents> {
        folder::read(place, net, device)
    }

    /// The checkpoint that is meant.
    pub(crate) fn find(&self, which: &Which) -> Result<PathBuf> {
        let newest = self.newest(&mut |_, _| {})?;
        let none = || TrainError::invalid(format!("{} has no whole checkpoint", self.run.display()));
        let place = match which {
            Which::Newest => return Ok(newest.ok_or_else(none)?.0),
            Which::Best => {
                let best = newest.ok_or_else(none)?.1.best.ok_or_else(|| {
                    let run = self.run.display();
                    TrainError::invalid(format!(
                        "{run} was trained without a score to be best at: `checkpoints.best`"
                    ))
                })?;
                self.place(best.steps)
            }
            Which::Named(name) => self.run.join(CHECKPOINTS).join(name),
        };
        match place.join(MODEL).exists() {
            true => Ok(place),
            false => {
                let known: Vec<String> = self.all()?.iter().map(|place| name(place)).collect();
                let (place, known) = (place.display(), known.join(", "));
                Err(TrainError::invalid(format!("there is no checkpoint {place}; there are: {known}")))
            }
        }
    }

    /// Links the finished network into the run's own folder.
    fn publish(&self, place: &Path) -> Result<()> {
        let (from, to) = (place.join(MODEL), self.run.join(MODEL));
        let temporary = self.run.join(format!(".{MODEL}.tmp"));
        let attempt = || {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Not every file system has links.
            fs::hard_link(&from, &temporary)
                .or_else(|_| fs::copy(&from, &temporary).and_then(|_| File::open(&temporary)?.sync_all()))?;
            fs::rename(&temporary, &to)
        };
        attempt().map_err(io(&to))?;
        sync(&self.run)
    }

    /// Removes those that need not stay.
    pub(crate) fn prune(&self, state: &State) -> Result<()> {
        // Later ones than the state's own are broken, and do not count in what is kept.
        let mut all = self.all()?;
        all.retain(|place| *place <= self.place(state.steps));
        let best = state.best.map(|best| self.place(best.steps));
        let old = all.len().saturating_sub(self.config.keep.max(1));
        for place in all.into_iter().take(old).filter(|place| Some(place) != best.as_ref()) {
            remove(&place)?;
        }
        Ok(())
    }

    /// All checkpoints, oldest first.
    fn all(&self) -> Result<Vec<PathBuf>> {
        let mut places = self.entries()?;
        places.retain(|place| name(place).starts_with("step-"));
        places.sort();
        Ok(places)
    }

    /// All that lies in the checkpoints' folder, in no order.
    fn entries(&self) -> Result<Vec<PathBuf>> {
        let folder = self.run.join(CHECKPOINTS);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(io(&folder)(error)),
        };
        let places = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
        places.map_err(io(&folder))
    }
}

fn name(place: &Path) -> String {
    place.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Puts a folder in the place of another.
fn replace(new: &Path, place: &Path) -> Result<()> {
    // A checkpoint of the same step has the same contents but perhaps a later evaluation. It is moved away rather than
    // removed first: a crash between the two renames leaves it under a name of its own, from which `recover` takes it.
    let old = place.with_file_name(format!(".{}.old", name(place)));
    remove(&old)?;
    if place.exists() {
        fs::rename(place, &old).map_err(io(place))?;
    }
    fs::rename(new, place).map_err(io(place))?;
    remove(&old)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(folder)(error)),
        _ => Ok(()),
    }
}

/// Makes renames durable. Windows offers no such call and needs none.
fn sync(folder: &Path) -> Result<()> {
    match cfg!(unix) {
        true => File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder)),
        false => Ok(()),
    }
}
