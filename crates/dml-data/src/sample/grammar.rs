//! Sentences about a clip, each worded differently.

use dml_rand::Stream;

use super::motion::Action;
use super::scene::{CLOTHES, Content, Object};

/// Three to five sentences. Each names the colour of the clothes, the stature, the action and the object.
pub(super) fn sentences(content: Content, action: Action, stream: &mut Stream) -> Vec<String> {
    // No two subjects are worded alike, so no two sentences are.
    let subjects = stream.permutation(SUBJECTS);
    let orders = stream.permutation(ORDERS);
    let verbs = stream.permutation(verbs(action).len());
    let count = 3 + stream.below(3);
    let noun = *stream.pick(&["man", "woman"]);
    (0..count)
        .map(|i| {
            let noun = if stream.chance(0.5) { noun } else { *stream.pick(&["person", "figure"]) };
            let subject = subject(subjects[i], content, noun);
            let verb = self::verbs(action)[verbs[i % verbs.len()]];
            sentence(orders[i], &subject, verb, &object_phrase(content, stream))
        })
        .collect()
}

const SUBJECTS: usize = 6;

fn subject(form: usize, content: Content, noun: &str) -> String {
    let colour = CLOTHES[content.clothes].0;
    let stature = stature(content.tall);
    match form {
        0 => format!("a {stature} {noun} in {colour}"),
        1 => format!("the {stature} {noun} wearing {colour} clothes"),
        2 => format!("someone {stature} dressed in {colour}"),
        3 => format!("a {noun} who is {stature} and clad in {colour}"),
        4 => format!("one {stature} {noun} in a {colour} suit"),
        _ => format!("a {stature} {colour}-clothed {noun}"),
    }
}

pub(super) fn stature(tall: bool) -> &'static str {
    if tall { "tall" } else { "short" }
}

const ORDERS: usize = 6;

/// The parts of a sentence, in one of several orders; a verb comes as (present, progressive).
fn sentence(order: usize, subject: &str, (does, doing): (&str, &str), object: &str) -> String {
    match order {
        0 => format!("{subject} {does} {object}"),
        1 => format!("{subject} is {doing} {object}"),
        2 => format!("{object}, {subject} {does}"),
        3 => format!("there is {subject} {doing} {object}"),
        4 => format!("{doing}, {subject} can be seen {object}"),
        _ => format!("{subject}, {object}, is {doing}"),
    }
}

fn object_phrase(content: Content, stream: &mut Stream) -> String {
    let relation = match (content.object, content.held) {
        (Object::Hat, true) => stream.pick(&["wearing", "under", "in"]),
        (_, true) => stream.pick(&["with", "holding", "carrying", "while holding"]),
        (_, false) => stream.pick(&["beside", "next to", "near", "close to"]),
    };
    let article = if content.object == Object::Umbrella { "an" } else { "a" };
    format!("{relation} {article} {}", content.object.name())
}

/// Ways to say what happens: present and progressive.
pub(super) fn verbs(action: Action) -> &'static [(&'static str, &'static str)] {
    match action {
        Action::Wave => &[
            ("waves", "waving"),
            ("moves an arm from side to side", "moving an arm from side to side"),
            ("greets by waving", "greeting by waving"),
            ("gives a wave", "giving a wave"),
        ],
        Action::Clap => &[
            ("claps", "clapping"),
            ("applauds", "applauding"),
            ("brings both hands together", "bringing both hands together"),
            ("claps the hands", "clapping the hands"),
        ],
        Action::Walk => &[
            ("walks", "walking"),
            ("strolls along", "strolling along"),
            ("takes some steps", "taking some steps"),
            ("walks along", "walking along"),
        ],
        Action::Jump => &[
            ("jumps", "jumping"),
            ("hops up and down", "hopping up and down"),
            ("leaps into the air", "leaping into the air"),
            ("jumps up", "jumping up"),
        ],
        Action::Squat => &[
            ("squats", "squatting"),
            ("crouches down", "crouching down"),
            ("does deep knee bends", "doing deep knee bends"),
            ("squats down", "squatting down"),
        ],
        Action::Kick => &[
            ("kicks", "kicking"),
            ("swings a leg forward", "swinging a leg forward"),
            ("kicks out", "kicking out"),
            ("lashes out with a foot", "lashing out with a foot"),
        ],
        Action::Punch => &[
            ("punches", "punching"),
            ("thrusts a fist forward", "thrusting a fist forward"),
            ("punches the air", "punching the air"),
            ("strikes with a fist", "striking with a fist"),
        ],
        Action::Bow => &[
            ("bows", "bowing"),
            ("bends at the waist", "bending at the waist"),
            ("leans far forward", "leaning far forward"),
            ("takes a bow", "taking a bow"),
        ],
        Action::JumpingJack => &[
            ("does jumping jacks", "doing jumping jacks"),
            ("does star jumps", "doing star jumps"),
            ("spreads arms and legs in the air", "spreading arms and legs in the air"),
            ("performs jumping jacks", "performing jumping jacks"),
        ],
        Action::SpinArms => &[
            ("spins both arms", "spinning both arms"),
            ("whirls the arms in circles", "whirling the arms in circles"),
            ("turns the arms like a windmill", "turning the arms like a windmill"),
            ("swings both arms round and round", "swinging both arms round and round"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dml_rand::Purpose;

    use super::*;

    /// Every combination, so that no wording is left out by chance.
    #[test]
    fn every_sentence_names_colour_stature_action_and_object_and_no_other() {
        let mut sample = 0;
        for action in Action::ALL {
            for (clothes, (colour, _)) in CLOTHES.into_iter().enumerate() {
                for object in Object::ALL {
                    for (tall, held) in [(false, false), (false, true), (true, false), (true, true)] {
                        sample += 1;
                        let mut stream = Stream::new(0, Purpose::Test, 0, sample);
                        let content = Content { clothes, tall, object, held };
                        let all = sentences(content, action, &mut stream);
                        assert!((3..=5).contains(&all.len()));
                        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
                        for sentence in &all {
                            let words: BTreeSet<&str> =
                                sentence.split(|c: char| !c.is_alphabetic()).collect();
                            let named = |words_of: &[&'static str]| -> Vec<&'static str> {
                                words_of.iter().copied().filter(|word| words.contains(word)).collect()
                            };
                            assert_eq!(named(&CLOTHES.map(|(name, _)| name)), [colour], "{sentence}");
                            assert_eq!(named(&["tall", "short"]), [stature(tall)], "{sentence}");
                            assert_eq!(named(&Object::ALL.map(Object::name)), [object.name()], "{sentence}");
                            let said = verbs(action)
                                .iter()
                                .any(|(does, doing)| sentence.contains(does) || sentence.contains(doing));
                            assert!(said, "{action:?}: {sentence}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_two_actions_share_a_wording() {
        let all: Vec<&str> = Action::ALL.into_iter().flat_map(verbs).flat_map(|&(a, b)| [a, b]).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(Action::ALL.into_iter().all(|action| verbs(action).len() >= 3));
    }
}
