use std::time::Duration;

/// What can go wrong between ranks.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// The processes were started in a way that cannot work; the text says what would.
    #[error("{0}")]
    Launch(String),
    /// A rank has gone while others waited for it.
    #[error("rank {rank} has stopped before the others: see what it said last")]
    Gone {
        /// Which.
        rank: usize,
    },
    /// Ranks for which others have waited longer than they are to. Where there are none, all wait for each other.
    #[error("{}", late(silent, busy, *limit))]
    Late {
        /// Those whose process does not answer.
        silent: Vec<usize>,
        /// Those whose process answers, and does something else.
        busy: Vec<usize>,
        /// How long the others wait.
        limit: Duration,
    },
    /// A message that cannot be sent.
    #[error("{0}")]
    Message(String),
    /// From a tensor.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, CollectiveError>;

fn late(silent: &[usize], busy: &[usize], limit: Duration) -> String {
    let of = |ranks: &[usize], one: &str, several: &str| {
        let numbers: Vec<String> = ranks.iter().map(usize::to_string).collect();
        match ranks.len() {
            0 => None,
            1 => Some(format!("rank {} did not come within {limit:?}{one}", numbers[0])),
            _ => Some(format!("ranks {} did not come within {limit:?}{several}", numbers.join(", "))),
        }
    };
    let silent = of(
        silent,
        " and does not answer: its process hangs, or its machine or network is down",
        " and do not answer: their processes hang, or their machines or network are down",
    );
    let busy = of(
        busy,
        ", though its process answers: it computes for longer than that, or waits for something such as a disk",
        ", though their processes answer: they compute for longer than that, or wait for something such as a disk",
    );
    let all: Vec<String> = silent.into_iter().chain(busy).collect();
    match all.is_empty() {
        true => format!("all ranks have waited for each other for {limit:?}: what they send does not arrive"),
        false => all.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_are_late_are_named() {
        let check = |silent: &[usize], busy: &[usize], expected: &[&str]| {
            let limit = Duration::from_secs(600);
            let error = CollectiveError::Late { silent: silent.into(), busy: busy.into(), limit }.to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{error}");
        };
        check(&[2], &[], &["rank 2 did not come within 600s and does not answer"]);
        check(&[4, 5], &[], &["ranks 4, 5 did not come within 600s and do not answer"]);
        check(&[1], &[3], &["rank 1 did not come", "; rank 3 did not come within 600s, though its process"]);
        check(&[], &[], &["all ranks have waited for each other for 600s"]);
    }
}
