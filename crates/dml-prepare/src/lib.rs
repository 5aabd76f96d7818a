#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clips;
mod decode;
mod download;
mod error;
mod event;
mod extract;
mod fetch;
mod files;
mod layout;
mod locate;
mod manifest;
mod ordered;
mod part;
mod photos;
mod pipeline;
mod rar;
mod sources;
mod units;
mod video;

pub use clips::{Clip, Sampling, clips};
pub use download::Patience;
pub use error::{PrepareError, Result};
pub use event::{Event, Run};
pub use extract::{Kind, unpack, unpack_nested};
pub use fetch::{Network, Offer, fetch, silence};
pub use manifest::{Manifest, Name, Part, Source};
pub use part::PartOf;
pub use photos::photo;
pub use pipeline::{Options, Outcome, Summary, audit, offers, prepare, sampling, verify};
pub use rar::available as rar_available;
pub use units::bytes;
pub use video::{Ffmpeg, Select, Unreadable};
