//! The methods of speech as a client calls them, over the small model that writes touch tones as words, and
//! Silero's.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::Value;
use switchboard_mesh::{
    Channel,
    testing::{call, context, serve},
};
use switchboard_proto::inference::v1::inference_service_client::InferenceServiceClient;
use tonic::Code;

use super::*;
use crate::{
    Config, setup, start,
    transcribe::tests::{Sound, fixture},
};

async fn client() -> InferenceServiceClient<Channel> {
    let folder = tempfile::tempdir().unwrap();
    let link = |from: &Path| symlink(from, folder.path().join(from.file_name().unwrap())).unwrap();
    [fixture("models/tiny-whisper"), fixture("models/tiny-embedder"), setup::listener()]
        .iter()
        .for_each(|it| link(it));
    let config = Config {
        repository: folder.path().to_owned(),
        runtime: setup::runtime(),
        warm_up: Duration::ZERO,
        ..Config::default()
    };
    let mounted = start(config, &context(folder.path())).await.unwrap();
    InferenceServiceClient::new(serve(&mounted))
}

/// The sound of a row of the golden, and what is said in it.
fn row(name: &str) -> (Vec<f32>, Value) {
    let golden = fs::read_to_string(fixture("goldens/tiny-whisper.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let rows = golden["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name).unwrap().clone();
    (serde_json::from_value::<Sound>(row["sound"].clone()).unwrap().samples(), row)
}

fn time(time: Option<prost_types::Duration>) -> f64 {
    Duration::try_from(time.unwrap()).unwrap().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_comes_back_as_words_with_times() {
    let mut client = client().await;
    let (samples, row) = row("german");
    let request = TranscribeRequest { samples, ..TranscribeRequest::default() };
    let found = client.transcribe(call("acme").request(request)).await.unwrap().into_inner();
    assert_eq!(found.text, row["timed"]["text"].as_str().unwrap().trim());
    assert_eq!((found.locale.as_str(), found.model.as_str()), ("de", "tiny-whisper"));
    assert!(found.confidence > 0.5 && found.fingerprint.len() == 32, "{found:?}");
    let wanted = row["timed"]["segments"].as_array().unwrap();
    assert_eq!(found.segments.len(), wanted.len());
    for (segment, wanted) in found.segments.into_iter().zip(wanted) {
        let wanted = [&wanted[0], &wanted[1]].map(|time| time.as_f64().unwrap());
        assert_eq!([segment.start, segment.end].map(time), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_is_found_in_sound() {
    let mut client = client().await;
    // No voice: tones are no speech.
    let (samples, _) = row("short");
    let request = DetectSpeechRequest { samples: samples.clone(), ..DetectSpeechRequest::default() };
    let found = client.detect_speech(call("acme").request(request)).await.unwrap().into_inner();
    assert!(found.speeches.len() <= 1 && found.model == "silero-vad", "{found:?}");
    // Almost anything passes for speech where that is asked for.
    let request = DetectSpeechRequest {
        samples: samples.clone(),
        sample_rate: 8000,
        threshold: 0.001,
        min_speech: Some(prost_types::Duration::default()),
        ..DetectSpeechRequest::default()
    };
    let found = client.detect_speech(call("acme").request(request)).await.unwrap().into_inner();
    let last = found.speeches.last().expect("speech");
    assert!(
        time(last.start) < time(last.end) && time(last.end) <= samples.len() as f64 / 8000.0,
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sound_is_refused_by_name() {
    let mut client = client().await;
    let mut bad = vec![0.0; 100];
    bad[7] = f32::NAN;
    let mut loud = vec![0.0; 100];
    loud[99] = -1.25;
    let infinite = vec![f32::INFINITY];
    let with =
        |samples: &[f32]| TranscribeRequest { samples: samples.to_vec(), ..TranscribeRequest::default() };
    let cases = [
        (with(&[]), "samples: 0 samples; 1 to 480000"),
        (with(&bad), "samples[7]: NaN; -1 to 1 is allowed"),
        (with(&infinite), "samples[0]: inf; -1 to 1 is allowed"),
        (with(&loud), "samples[99]: -1.25; -1 to 1 is allowed"),
        (with(&vec![0.0; 480_001]), "samples: 480001 samples; 1 to 480000 (30 s at 16000 Hz) are allowed"),
        (TranscribeRequest { locale: "xx".into(), ..with(&[0.0]) }, "locale: \"xx\" is not spoken"),
        (TranscribeRequest { locale: "x".repeat(99), ..with(&[0.0]) }, "locale: 99 characters"),
        (TranscribeRequest { prompt: "x".repeat(2001), ..with(&[0.0]) }, "prompt: 2001 characters"),
    ];
    for (request, wanted) in cases {
        let error = client.transcribe(call("acme").request(request)).await.unwrap_err();
        assert!(
            error.code() == Code::InvalidArgument && error.message().contains(wanted),
            "{wanted}: {error}"
        );
    }
    let listen =
        |samples: &[f32]| DetectSpeechRequest { samples: samples.to_vec(), ..DetectSpeechRequest::default() };
    let long = Some(prost_types::Duration { seconds: 11, nanos: 0 });
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let cases = [
        (listen(&[]), "samples: 0 samples"),
        (listen(&bad), "samples[7]: NaN"),
        (DetectSpeechRequest { sample_rate: 44_100, ..listen(&[0.0]) }, "sample_rate: 44100; 8000 and 16000"),
        (DetectSpeechRequest { threshold: 1.5, ..listen(&[0.0]) }, "threshold: 1.5; above 0 and below 1"),
        (DetectSpeechRequest { threshold: f32::NAN, ..listen(&[0.0]) }, "threshold: NaN"),
        (DetectSpeechRequest { min_silence: long, ..listen(&[0.0]) }, "min_silence: 11s; 0 s to 10 s"),
        (DetectSpeechRequest { pad: negative, ..listen(&[0.0]) }, "pad: -1s; 0 s to 10 s"),
    ];
    for (request, wanted) in cases {
        let error = client.detect_speech(call("acme").request(request)).await.unwrap_err();
        assert!(
            error.code() == Code::InvalidArgument && error.message().contains(wanted),
            "{wanted}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_speech_do_what_they_are_for_and_nothing_else() {
    let mut client = client().await;
    let models =
        client.list_models(call("acme").request(ListModelsRequest {})).await.unwrap().into_inner().models;
    let tasks: Vec<(&str, TaskMessage)> =
        models.iter().map(|model| (model.name.as_str(), model.task())).collect();
    let [embeds, transcribes, detects] = [
        ("tiny-embedder", TaskMessage::Embed),
        ("tiny-whisper", TaskMessage::Transcribe),
        ("silero-vad", TaskMessage::DetectSpeech),
    ];
    assert_eq!(tasks, [detects, embeds, transcribes]);
    let embed =
        EmbedRequest { model: "tiny-whisper".into(), texts: vec!["a".into()], ..EmbedRequest::default() };
    let error = client.embed(call("acme").request(embed)).await.unwrap_err();
    assert!(error.code() == Code::FailedPrecondition && error.message().contains("transcribe"), "{error}");
    let model = "tiny-embedder".to_owned();
    let transcribe = TranscribeRequest { model, samples: vec![0.0; 160], ..TranscribeRequest::default() };
    let error = client.transcribe(call("acme").request(transcribe)).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
}
