#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cache;
mod encoder;
mod error;
mod layout;
mod lexical;
mod network;
mod order;
mod pooling;
mod retrieval;
mod stem;
mod transformer;
mod weights;

pub use cache::{EmbeddingCache, Embeddings};
pub use encoder::SentenceEncoder;
pub use error::{Result, TeacherError};
pub use lexical::Lexical;
pub use order::OrderEmbedding;
pub use order::train::{CaptionSet, OrderEvent, OrderOutcome, OrderSettings, OrderTrainer};
pub use retrieval::{CaptionScore, caption_retrieval, paraphrase_retrieval};
pub use transformer::SentenceTransformer;
pub use weights::{
    ALL_MINILM_L6_V2, find_sentence_transformer, find_sentence_transformer_here, load_encoder,
};
