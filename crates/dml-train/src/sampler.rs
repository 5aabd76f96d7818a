use dml_data::order;

/// Walks a dataset epoch after epoch, each in its own order; a phase goes on where the last one on the dataset stopped.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    seed: u64,
    len: usize,
    epoch: u64,
    next: usize,
    order: Vec<usize>,
}

/// The samples of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) epoch: u64,
    pub(crate) indices: Vec<usize>,
}

impl Cursor {
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        Self { seed, len, epoch: 0, next: 0, order: order(seed, 0, len) }
    }

    /// Goes to the start of the next epoch, unless an epoch has just begun.
    pub(crate) fn align(&mut self) {
        if self.next > 0 {
            self.advance();
        }
    }

    /// The next batch; the last one of an epoch may be smaller.
    pub(crate) fn draw(&mut self, batch: usize) -> Draw {
        if self.next == self.len {
            self.advance();
        }
        let end = (self.next + batch).min(self.len);
        let draw = Draw { epoch: self.epoch, indices: self.order[self.next..end].to_vec() };
        self.next = end;
        draw
    }

    fn advance(&mut self) {
        self.epoch += 1;
        self.next = 0;
        self.order = order(self.seed, self.epoch, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_shows_each_sample_once_and_keeps_the_last_batch() {
        let mut cursor = Cursor::new(1, 10);
        let draws: Vec<Draw> = (0..6).map(|_| cursor.draw(4)).collect();
        assert_eq!(draws.iter().map(|d| d.indices.len()).collect::<Vec<_>>(), [4, 4, 2, 4, 4, 2]);
        assert_eq!(draws.iter().map(|d| d.epoch).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
        let mut first: Vec<usize> = draws[..3].iter().flat_map(|d| d.indices.clone()).collect();
        let second: Vec<usize> = draws[3..].iter().flat_map(|d| d.indices.clone()).collect();
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn align_starts_an_epoch_once() {
        let mut cursor = Cursor::new(1, 10);
        cursor.align();
        assert_eq!(cursor.draw(4).epoch, 0);
        cursor.align();
        cursor.align();
        assert_eq!(cursor.draw(4).epoch, 1);
    }
}
