use half::bf16;

/// The format in which numbers travel between ranks. Sums are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16, which halves the volume: each rank's number is rounded before the sum, and the mean after it, so that
    /// the mean is within about 2⁻⁷ of the mean of the numbers' absolute values.
    Bf16,
}

/// A number as it travels.
pub(crate) trait Packed: Copy + Default {
    fn pack(value: f32) -> Self;
    fn unpack(self) -> f32;
}

impl Packed for f32 {
    fn pack(value: f32) -> Self {
        value
    }

    fn unpack(self) -> f32 {
        self
    }
}

/// The bits of a number in bf16: transports know u16.
impl Packed for u16 {
    fn pack(value: f32) -> Self {
        bf16::from_f32(value).to_bits()
    }

    fn unpack(self) -> f32 {
        bf16::from_bits(self).to_f32()
    }
}

/// The mean of several ranks' values, summed in f32 from rank 0 on, which fixes the bits.
pub(crate) fn mean_in_order<'a, T: Packed + 'a>(ranks: impl ExactSizeIterator<Item = &'a [T]>) -> Vec<T> {
    let (size, mut sums) = (ranks.len() as f32, Vec::new());
    for values in ranks {
        match sums.is_empty() {
            true => sums = values.iter().map(|value| value.unpack()).collect::<Vec<f32>>(),
            false => sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value.unpack()),
        }
    }
    sums.into_iter().map(|sum| T::pack(sum / size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_bf16_is_near_that_of_f32_and_summed_in_f32() {
        let numbers = |seed: u32| {
            (0..1000u32).map(move |i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) as f32).sin() * 3.0)
        };
        let ranks: Vec<Vec<f32>> = (0..3).map(|rank| numbers(rank * 977).collect()).collect();
        let packed: Vec<Vec<u16>> =
            ranks.iter().map(|values| values.iter().copied().map(u16::pack).collect()).collect();
        let exact = mean_in_order(ranks.iter().map(Vec::as_slice));
        let rounded = mean_in_order(packed.iter().map(Vec::as_slice));
        for (place, (exact, rounded)) in exact.iter().zip(rounded).enumerate() {
            let size = ranks.iter().map(|values| values[place].abs()).sum::<f32>() / 3.0;
            let off = (rounded.unpack() - exact).abs();
            assert!(off <= size / 127.0, "{off} of {size}");
        }
        // In bf16 256 + 1 is 256, as often as one is added.
        let ones = [[256f32], [1.0], [1.0], [2.0]].map(|values| values.map(u16::pack));
        assert_eq!(mean_in_order(ones.iter().map(|values| &values[..]))[0].unpack(), 65.0);
    }
}
