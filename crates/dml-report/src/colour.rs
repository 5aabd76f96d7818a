//! Colours of cells that show a number: computed here, for both themes, so that text on them can be told to be legible.

/// A cell's background and text in both themes, as custom properties for `style`.
pub(crate) fn cell_style(share: f64) -> String {
    let [(light, on_light), (dark, on_dark)] = cell(share);
    format!("--l:{light};--d:{dark};--li:{on_light};--di:{on_dark}")
}

/// Background and text for a share from 0 to 1: in the light theme, and in the dark one.
pub(crate) fn cell(share: f64) -> [(String, &'static str); 2] {
    [(LIGHT.0, LIGHT.1), (DARK.0, DARK.1)].map(|(from, to)| {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let mixed: [u8; 3] = std::array::from_fn(|i| {
            (f64::from(from[i]) + share * (f64::from(to[i]) - f64::from(from[i]))).round() as u8
        });
        (format!("#{:02x}{:02x}{:02x}", mixed[0], mixed[1], mixed[2]), text_on(mixed))
    })
}

type Rgb = [u8; 3];
const LIGHT: (Rgb, Rgb) = ([0xf4, 0xf7, 0xfc], [0x0b, 0x3d, 0x91]);
const DARK: (Rgb, Rgb) = ([0x1d, 0x24, 0x30], [0xa6, 0xcb, 0xff]);

/// Black or white, whichever has more contrast: at least 4.5 : 1 on any background.
fn text_on(background: Rgb) -> &'static str {
    let luminance = luminance(background);
    if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) { "#000" } else { "#fff" }
}

/// Relative luminance (WCAG 2.2).
fn luminance(colour: Rgb) -> f64 {
    let linear = |value: u8| {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_on_every_shade_is_legible() {
        for step in 0..=100 {
            for (background, text) in cell(f64::from(step) / 100.0) {
                let value = |at: usize| u8::from_str_radix(&background[at..at + 2], 16).unwrap();
                let background = luminance([value(1), value(3), value(5)]);
                let text = if text == "#000" { 0.0 } else { 1.0 };
                let (low, high) = (f64::min(text, background), f64::max(text, background));
                assert!((high + 0.05) / (low + 0.05) >= 4.5, "{step}: {background}");
            }
        }
    }
}
