//! Invocations of every kind, and what the function answers.

use std::io::Write;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_lambda::primitives::Blob;
use flate2::write::GzEncoder;
use lakebed_log::Log;
use lakebed_project::Tokens;
use lakebed_tests::batches::at;
use lakebed_tests::lambda::{FUNCTION, RuntimeApi};
use lakebed_tests::s3::Bucket;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::place::{BOOTSTRAP, Place, content};

fn client(api: &RuntimeApi) -> Client {
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(api.endpoint());
    Client::from_conf(config.build())
}

async fn invoke(client: &Client, payload: &str) -> Value {
    let answer = client.invoke().function_name(FUNCTION).payload(Blob::new(payload)).send().await.unwrap();
    assert_eq!(answer.function_error(), None);
    serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap()
}

fn event(id: &str) -> String {
    format!(r#"{{"event_id":"{id}","event_type":"view","event_time":"2026-11-01T00:00:00Z"}}"#)
}

fn counts(answer: &Value) -> (u64, u64, u64) {
    let count = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{answer}"));
    (count("accepted"), count("quarantined"), count("duplicate"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_invokes_it_is_told_by_the_payload() {
    let place = Place::new();
    let _function = place.function();
    let client = client(&place.api);
    // Events as they are: the text of each is kept byte for byte.
    let spaced = r#"{ "event_id" : "one", "event_type":"view", "event_time":"2026-11-01T00:00:00Z", "x":1.50 }"#;
    let answer = invoke(&client, spaced).await;
    assert_eq!((counts(&answer), answer["version"].as_u64()), ((1, 0, 0), Some(1)));
    assert_eq!(counts(&invoke(&client, spaced).await), (0, 0, 1), "a retry of the same payload");
    assert_eq!(counts(&invoke(&client, &format!("[{}, {}]", event("a"), event("b"))).await), (2, 0, 0));
    let lines = format!("{}\nno event\n{}", event("c"), event("d"));
    assert_eq!(counts(&invoke(&client, &json!(lines).to_string()).await), (2, 1, 0));
    let named = format!(r#"{{"events":[{}],"batch_id":"mine","source":"app"}}"#, event("e"));
    assert_eq!(counts(&invoke(&client, &named).await), (1, 0, 0));
    assert_eq!(counts(&invoke(&client, &named).await), (0, 0, 1));
    assert_eq!(counts(&invoke(&client, "7").await), (0, 1, 0), "poison is in quarantine, and not retried");
    // EventBridge: an event of its own, and one of ours that came by it.
    let bus = |detail: &str| {
        format!(
            r#"{{"version":"0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","detail-type":"EC2 Instance State-change Notification",
            "source":"aws.ec2","account":"111122223333","time":"2017-12-22T18:43:48Z","region":"us-west-1","resources":[],"detail":{detail}}}"#
        )
    };
    assert_eq!(counts(&invoke(&client, &bus(r#"{"instance-id":"i-1","state":"terminated"}"#)).await), (1, 0, 0));
    assert_eq!(counts(&invoke(&client, &bus(&event("f"))).await), (1, 0, 0));

    let (rows, quarantined) = content(&place.log().await).await;
    let ids: Vec<_> = rows.iter().map(|row| row.event_id.as_str()).collect();
    assert_eq!(ids, ["one", "a", "b", "c", "d", "e", "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "f"]);
    assert_eq!((rows[0].doc.as_str(), quarantined), (spaced, 2));
    assert_eq!((rows[5].batch_id.as_str(), rows[7].doc.as_str()), ("mine", event("f").as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_api_answers_as_the_server_does() {
    let place = Place::new();
    let tokens = Tokens::new(place.store());
    let secret = tokens.add("shop", "web", at(0)).await.unwrap();
    let _function = place.function();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |query: &str, key: &str, content: &str, body: Vec<u8>| {
        let request = http.post(format!("{}/v1/events{query}", place.api.function_url())).body(body);
        let request = request.header("content-type", content).header("idempotency-key", key).bearer_auth(&secret);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let said: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        (status, said)
    };
    let (status, said) = post("", "k", "application/json", event("a").into()).await;
    assert_eq!((status, counts(&said)), (200, (1, 0, 0)));
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(event("a").as_bytes()).unwrap();
    let (status, said) = post("", "k", "application/x-ndjson", gzip.finish().unwrap()).await;
    assert_eq!((status, counts(&said)), (200, (0, 0, 1)), "the same batch, compressed and in base64");
    let (status, said) = post("", "k", "application/json", event("b").into()).await;
    assert_eq!(status, 409, "{said}");
    let (status, said) = post("", "other", "application/json", b"{\"event_id\":".to_vec()).await;
    assert_eq!(status, 400, "{said}");
    assert!(said["error"].as_str().unwrap().contains("line 1 column 12"), "{said}");
    let (status, said) = post("?ack=durable", "later", "application/json", event("c").into()).await;
    assert_eq!((status, &said["version"]), (202, &Value::Null));
    let anybody = http.post(place.api.function_url()).body(event("x")).send().await.unwrap();
    assert_eq!(anybody.status().as_u16(), 401, "a function URL without an authorizer is open to everybody");
    let got = http.get(place.api.function_url()).send().await.unwrap();
    assert_eq!(got.status().as_u16(), 405);
    let (rows, _) = content(&place.log().await).await;
    assert_eq!(rows.iter().map(|row| row.event_id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_come_to_a_bucket_are_read() {
    let (api, bucket) = (RuntimeApi::start(), Bucket::new());
    let (url, settings) = (bucket.url(), bucket.settings());
    let lake = format!("{url}/lake");
    let [region, endpoint, id, secret] =
        [settings.region, settings.endpoint, settings.access_key_id, settings.secret_access_key].map(Option::unwrap);
    let environment = [
        ("LAKEBED_LAKE_URL", lake.as_str()),
        ("LAKEBED_PROJECT_NAME", "lakebed"),
        // Of no account for objects.
        ("LAKEBED_INGEST_BATCH_EVENTS", "1"),
        ("AWS_REGION", &region),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ACCESS_KEY_ID", &id),
        ("AWS_SECRET_ACCESS_KEY", &secret),
    ];
    let _function = api.function(std::path::Path::new(BOOTSTRAP), &environment);
    let client = client(&api);
    let (name, prefix) = url.strip_prefix("s3://").and_then(|url| url.split_once('/')).unwrap();
    let put = async |key: &str, bytes: Vec<u8>| bucket.store().put(&Path::parse(key).unwrap(), bytes).await.unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(format!("{}\n{}\nbad\n", event("a"), event("b")).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    put("in/ä b+c.ndjson.gz", gzip.clone()).await;
    put("in/array.json", format!("[{},{}]", event("c"), event("d")).into_bytes()).await;
    put("in/cut.gz", gzip[..gzip.len() - 12].to_vec()).await;
    let zstd = zstd::encode_all(format!("{}\n", event("e")).as_bytes(), 1).unwrap();
    put("in/cut.zst", zstd[..zstd.len() - 5].to_vec()).await;
    // As S3 writes keys: form-encoded, and tags without quotes.
    let tag = async |key: &str| {
        let path = Path::parse(percent_decode_str(&key.replace('+', " ")).decode_utf8().unwrap()).unwrap();
        let meta = bucket.store().objects().head(&path).await;
        meta.ok().and_then(|meta| meta.e_tag).unwrap_or_default().trim_matches('"').to_owned()
    };
    let notification = |keys: &[(&str, String)]| {
        let record = |(key, tag): &(&str, String)| {
            json!({
                "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": region, "eventTime": "2026-11-01T00:00:00.000Z",
                "eventName": "ObjectCreated:Put", "userIdentity": {"principalId": "AWS:A"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"}, "responseElements": {},
                "s3": {"s3SchemaVersion": "1.0", "configurationId": "c",
                    "bucket": {"name": name, "ownerIdentity": {"principalId": "A"}, "arn": format!("arn:aws:s3:::{name}")},
                    "object": {"key": format!("{prefix}/{key}"), "size": 1, "eTag": tag, "sequencer": "0"}}
            })
        };
        json!({ "Records": keys.iter().map(record).collect::<Vec<_>>() }).to_string()
    };
    let all = ["in/%C3%A4+b%2Bc.ndjson.gz", "in/array.json", "in/cut.gz", "in/cut.zst", "in/gone.json"];
    let mut noted = Vec::new();
    for key in all {
        noted.push((key, tag(key).await));
    }
    let first = counts(&invoke(&client, &notification(&noted)).await);
    // Of the object that is cut off, what came before the cut may be there, and that it is cut is in quarantine.
    assert_eq!((first.0, first.2), (4, 0));
    assert_eq!(first.1, 1 + 3);
    let again = counts(&invoke(&client, &notification(&noted)).await);
    assert_eq!(again, (0, 0, 4 + 1 + 3), "a notification comes at least once");
    // What was written over before it was read is not taken for what was notified; and a notification may come by a queue.
    put("in/array.json", event("f").into_bytes()).await;
    let stale = [("in/array.json", "0123456789abcdef0123456789abcdef".to_owned())];
    assert_eq!(counts(&invoke(&client, &notification(&stale)).await), (0, 1, 0));
    let fresh = [("in/array.json", tag("in/array.json").await)];
    let message = json!({ "Records": [{
        "messageId": "m1", "receiptHandle": "r", "body": notification(&fresh), "attributes": {}, "messageAttributes": {},
        "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:1:q", "awsRegion": "us-east-1"
    }] });
    assert_eq!(invoke(&client, &message.to_string()).await, json!({ "batchItemFailures": [] }));
    let log = Log::open(bucket.store_below("lake"), "lakebed").await.unwrap();
    let (rows, quarantined) = content(&log).await;
    let ids: Vec<_> = rows.iter().map(|row| row.event_id.as_str()).collect();
    assert_eq!((ids, quarantined), (vec!["a", "b", "c", "d", "f"], 5));
    assert!(rows.iter().all(|row| !row.batch_id.contains('#')), "an object is cut at the same places, whatever is set");
}

/// A service's payload that is not understood is not taken for done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_sent_is_understood_or_failed() {
    let place = Place::new();
    let _function = place.function();
    let client = client(&place.api);
    for payload in [
        r#"{"Records":[{"eventSource":"aws:kinesis","kinesis":{"data":"!"}}]}"#,
        r#"{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{}}]}"#,
    ] {
        let failed = client.invoke().function_name(FUNCTION).payload(Blob::new(payload)).send().await;
        assert!(failed.is_err(), "{payload}");
    }
    let rest = r#"{"httpMethod":"POST","path":"/","headers":{"authorization":"Bearer x"},"requestContext":{"stage":"p"},"body":"{}"}"#;
    let answer = invoke(&client, rest).await;
    assert_eq!(answer["statusCode"], 400, "{answer}");
    // An event of ours is an event, whatever else is in it.
    let event = r#"{"event_id":"s","event_type":"session","event_time":0,"events":[{"event_id":"x"}],"detail-type":"d","detail":{}}"#;
    assert_eq!(counts(&invoke(&client, event).await), (1, 0, 0));
    let (rows, quarantined) = content(&place.log().await).await;
    assert_eq!((rows.len(), quarantined, rows[0].doc.as_str()), (1, 0, event));
}

/// Outside of Lambda it says what it is.
#[test]
fn started_by_hand_it_says_what_it_is() {
    let says = |environment: &[(&str, &str)], message: &str| {
        let directory = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(BOOTSTRAP);
        command.env_clear().envs(environment.iter().copied()).current_dir(directory.path());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.starts_with(&format!("error: {message}")) && said.contains("\nhint: "), "{said}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it made nothing");
    };
    says(&[], "this runs as an AWS Lambda function");
    let api = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1");
    says(&[api], "the environment variable LAKEBED_LAKE_URL: it is not set");
    says(&[api, ("LAKEBED_LAKE_URL", "./lake")], "the environment variable LAKEBED_PROJECT_NAME: it is not set");
}
