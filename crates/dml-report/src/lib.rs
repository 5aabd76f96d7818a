#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod axis;
mod charts;
mod classes;
mod colour;
mod curves;
mod error;
mod gallery;
mod heat;
mod history;
mod page;
mod run;
mod scores;
mod settings;
mod sweep;
mod sweeps;
mod thumbnail;

use std::path::Path;

pub use error::{ReportError, Result};
pub use history::{Evaluation, History, Phase};
pub use run::{Detail, Run};
pub use sweep::{Heat, Sweep};

/// Most runs of a sweep whose curves are laid over each other.
const OVERLAID: usize = 6;

/// Everything that a page shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The runs.
    pub runs: Vec<Run>,
    /// The sweeps and comparisons.
    pub sweeps: Vec<Sweep>,
}

impl Report {
    /// Reads the folders of runs, sweeps and comparisons. A sweep of few runs brings those of its first seed along, so that
    /// their curves can be laid over each other.
    ///
    /// # Errors
    /// If a folder is neither, or a file in it cannot be read.
    pub fn read<P: AsRef<Path>>(folders: &[P]) -> Result<Self> {
        let mut report = Self::default();
        for folder in folders.iter().map(AsRef::as_ref) {
            if Sweep::is_in(folder) {
                let sweep = Sweep::read(folder)?;
                for folder in sweep.comparable(OVERLAID).iter().filter(|folder| Run::is_in(folder)) {
                    let mut run = Run::read(folder)?;
                    let listed =
                        sweep.runs.iter().find(|listed| sweep.folder.join(&listed.folder) == *folder);
                    if let Some(listed) = listed {
                        run.name = sweep::name(listed);
                    }
                    run.detail = None;
                    report.runs.push(run);
                }
                report.sweeps.push(sweep);
            } else if Run::is_in(folder) {
                report.runs.push(Run::read(folder)?);
            } else {
                return Err(ReportError::Folder(folder.into()));
            }
        }
        report.tell_apart();
        Ok(report)
    }

    /// Runs of one name get their folders as names, or a number where those are equal too.
    fn tell_apart(&mut self) {
        let same = |runs: &[Run], at: usize| runs.iter().filter(|run| run.name == runs[at].name).count() > 1;
        for at in 0..self.runs.len() {
            if same(&self.runs, at) {
                let name = self.runs[at].folder.display().to_string();
                let name = if self.runs[at].name == name { format!("{name} ({})", at + 1) } else { name };
                self.runs[at].name = name;
            }
        }
        for at in 0..self.runs.len() {
            if same(&self.runs, at) {
                let name = format!("{} ({})", self.runs[at].name, at + 1);
                self.runs[at].name = name;
            }
        }
    }

    /// The page: one HTML file that needs nothing beside it and asks for nothing.
    pub fn html(&self) -> String {
        page::page(self).into_string()
    }

    /// The charts as SVG files of their own: file name and content.
    pub fn svgs(&self) -> Vec<(String, String)> {
        charts::files(self)
    }
}
