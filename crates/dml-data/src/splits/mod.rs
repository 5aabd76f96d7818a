//! The published split and label files of the datasets, read strictly: a line that is not as its format says is an
//! error with file and line. No media file is looked for.

mod classes;
mod flickr8k;
mod msvd;
mod voc;

pub use classes::{ClassLists, ClassSplit, HMDB51_LISTS, UCF101_LISTS, hmdb51, ucf101};
pub use flickr8k::flickr8k;
pub use msvd::{Captioned, ClipId, MsvdLists, Sources, descriptions, msvd, video_corpus};
pub use voc::{VOC_CLASSES, voc};
