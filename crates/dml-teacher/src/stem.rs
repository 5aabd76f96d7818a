/// Takes an English word's inflection off: *runs*, *running* → *run*; *waves*, *waved*, *waving*, *wave* → *wav*;
/// *carries*, *carried*, *carry* → *carri*. What is left need not be a word. Irregular forms are left alone.
///
/// The rules are steps 1a to 1c and 5 of Porter (1980), "An algorithm for suffix stripping", with simpler conditions.
pub(crate) fn stem(word: &str) -> String {
    let word = singular(word);
    let strip = |suffix| word.strip_suffix(suffix).filter(|rest: &&str| rest.contains(is_vowel));
    // "feed" and "speed" have no ending.
    let past = || strip("ed").filter(|rest| !rest.ends_with('e'));
    let bare = strip("ing").or_else(past).unwrap_or(word);
    let mut stem = bare.strip_suffix('e').filter(|rest| rest.contains(is_vowel)).unwrap_or(bare).to_owned();
    let end: Vec<char> = stem.chars().rev().take(2).collect();
    match end[..] {
        ['y', before] if !is_vowel(before) => {
            stem.pop();
            stem.push('i');
        }
        [last, before] if last == before && !is_vowel(last) && !"lsz".contains(last) => {
            stem.pop();
        }
        _ => {}
    }
    stem
}

fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        // "dress" and "bus" are no plurals.
        Some(rest) if rest.len() >= 3 && !rest.ends_with(['s', 'u']) => rest,
        _ => word,
    }
}

fn is_vowel(c: char) -> bool {
    "aeiouy".contains(c)
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn forms_of_a_word_agree() {
        for forms in [
            "run runs running",
            "wave waves waved waving",
            "carry carries carried carrying",
            "kick kicks kicked kicking",
            "hop hops hopped hopping",
            "fall falls falling",
            "pass passes passed passing",
            "catch catches catching",
            "dance dances danced dancing",
            "ski skis skiing",
            "see sees seeing",
            "lie lies lying",
            "add adds added adding",
            "box boxes boxing",
            "dress dresses dressed",
            "bus buses",
            "horse horses",
            "dog dogs",
        ] {
            let stems: Vec<String> = forms.split(' ').map(stem).collect();
            assert!(stems.iter().all(|s| *s == stems[0]), "{forms}: {stems:?}");
        }
    }

    #[test]
    fn different_words_stay_different() {
        let words = "king ring thing sing red bed feed see seed speed spring swing wave way walk wall hat hate cat \
                     car care é ß";
        let stems: std::collections::HashSet<String> = words.split_whitespace().map(stem).collect();
        let same = ["hate", "care"]; // With "hat" and "car": a final e is no reliable mark.
        assert_eq!(stems.len(), words.split_whitespace().count() - same.len());
    }
}
