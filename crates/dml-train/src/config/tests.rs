use std::path::Path;

use super::*;

fn load(settings: &[&str]) -> Result<Config> {
    Config::load(&Config::sample(), None, &settings.iter().map(|s| s.to_string()).collect::<Vec<_>>())
}

#[test]
fn settings_overlay_the_defaults() {
    let config = load(&["training.caption_loss.kind=info-nce"]);
    assert!(config.unwrap_err().to_string().contains("tau"));
    let config =
        load(&["training.epochs=12", "method=mixed", "training.caption_loss={kind='info-nce',tau=0.07}"])
            .unwrap();
    assert_eq!((config.training.epochs, config.method), (12, Method::Mixed));
    assert_eq!(config.training.caption_loss, Loss::InfoNce { tau: 0.07 });
    assert_eq!(config.training.batch, Config::sample().training.batch);
}

#[test]
fn fractions_and_decays_that_are_none_are_refused() {
    for (setting, part) in [
        ("validation=1.0", "validation is 1"),
        ("validation=-0.1", "validation is -0.1"),
        ("training.ema_decay=1.5", "1.5"),
    ] {
        let error = load(&[setting]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(load(&["validation=0.2"]).unwrap().validation, 0.2);
}

#[test]
fn a_file_that_asks_for_photographs_gets_their_defaults() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("run.toml");
    let text = "[data]\nkind = 'photographs'\nimages = 'a'\ncaptions = 'b'\n[training]\nepochs = 3\n";
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&Config::sample(), Some(&file), &[]).unwrap();
    let mut expected = Config::photographs(Path::new("a"), Path::new("b"));
    expected.training.epochs = 3;
    assert_eq!(config, expected);
}

#[test]
fn videos_get_the_settings_of_their_root() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("run.toml");
    let paths = (Path::new("a"), Path::new("b"));
    let text = "[data]\nkind = 'videos'\nvideos = 'a'\ncaptions = 'b'\nsplit = 2\n";
    let check = |more: &str, settings: &[&str], expected: Config| {
        std::fs::write(&file, format!("{text}{more}")).unwrap();
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let config = Config::load(&Config::sample(), Some(&file), &settings).unwrap();
        let mut expected = expected;
        let DataConfig::Videos(videos) = &mut expected.data else { panic!("{expected:?}") };
        videos.split = 2;
        assert_eq!(config, expected, "{more} {settings:?}");
    };
    let small = Config::videos(paths.0, paths.1);
    check("", &[], small.clone());
    let c3d = small.clone().with_root(RootConfig::C3d { dropout: 0.5 });
    assert_eq!((c3d.optimizer.root_learning_rate, c3d.training.lambda_caption), (1e-5, 0.7));
    check("[root]\nkind = 'c3d'\n", &[], c3d.clone());
    check("", &["root.kind=c3d"], c3d.clone());
    // What the file says goes before what the root brings.
    let slower =
        Config { optimizer: OptimizerConfig { root_learning_rate: 1e-6, ..c3d.optimizer.clone() }, ..c3d };
    check("[optimizer]\nroot_learning_rate = 1e-6\n", &["root.kind=c3d"], slower);
    let vgg = Config::photographs(paths.0, paths.1).with_root(RootConfig::VggS { dropout: 0.5 });
    assert_eq!(
        (vgg.optimizer.head_learning_rate, vgg.training.batch, vgg.method),
        (5e-5, 64, Method::DmlLwf)
    );
}

#[test]
fn unknown_keys_are_refused_by_name() {
    for (setting, name) in [
        ("epochs=4", "epochs"),
        ("training.epoch=4", "epoch"),
        ("data.framez=4", "framez"),
        ("root.widht=4", "widht"),
        ("method=dmll", "dmll"),
        ("training.caption_loss.tau=0.1", "tau"),
        ("training.class_loss={kind='softmax',tau=3.0}", "tau"),
    ] {
        let error = load(&[setting]).unwrap_err().to_string();
        assert!(error.contains(name), "{setting}: {error}");
    }
}

#[test]
fn the_resolved_configuration_reads_back() {
    let paths = (Path::new("a"), Path::new("b"));
    let videos = Config::videos(paths.0, paths.1);
    for config in [Config::sample(), Config::photographs(paths.0, paths.1), videos] {
        let text = config.to_toml().unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config, "{text}");
    }
}
