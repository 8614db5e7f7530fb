use proptest::prelude::*;

use super::*;
use crate::model::{Balance, Deployment, DeploymentId, Offer, Status, Time, Usd, Volume, VolumeStatus};

/// The documented sample, kubeconfig and all.
const DEPLOYMENT: &str = r#"{"id":"65a1","name":"My GPU Instance","userId":"user_id","teamId":"team_1",
"gpuModelId":"rtx-4090-spheron-ai-1","gpuType":"rtx-4090","offerId":"rtx-4090-spheron-ai-1","providerId":"spheron-ai",
"gpuCount":1,"region":"us-east-1","operatingSystem":"ubuntu-20.04","instanceType":"DEDICATED","sshKeyId":"k",
"tempSshKeyId":null,"sshKeyName":"My SSH Key","sshKeyFingerprint":"SHA256:abc123...","ipAddress":"192.168.1.100",
"user":"ubuntu","status":"running","startedAt":"2024-01-15T10:30:00Z","stoppedAt":null,
"lastCreditDeduction":"2024-01-15T11:30:00Z","totalCost":12.50,"hourlyRate":0.50,"hasDiscount":false,
"discountPercentage":0,"originalHourlyRate":0.50,"vcpus":8,"memory":32,"storage":100,
"sshCommand":"ssh ubuntu@192.168.1.100","sshPort":22,"portForwards":[],"kubernetesAddon":{"version":"1.35",
"kubeconfig":"apiVersion: v1\nclusters:SECRET-KUBE","k8s_cluster_id":"550e8400"},"createdAt":"2024-01-15T10:30:00Z"}"#;

const VOLUME: &str = r#"{"id":"v1","volumeId":"vol_abc123","name":"data","userId":"u","teamId":"team_1",
"providerId":"voltage-park","sizeInGb":100,"usedCapacityBytes":52428800000,"virtualIp":"192.168.100.50",
"attachedToDeploymentIds":["65a1"],"attachedToOrderIds":["order_123"],"status":"attached","hourlyRate":0.0137,
"lastPriceUpdate":"2026-02-07T10:30:00Z","createdAt":"2026-02-07T10:00:00Z","lastAttachedAt":"2026-02-07T10:15:00Z"}"#;

const BALANCES: &str = r#"{"teams":[{"teamId":"team_1","teamName":"My Personal Team","balance":25.50,"isCurrentTeam":true,
"role":"owner"},{"teamId":"team_2","teamName":"Company Team","balance":150.75,"isCurrentTeam":false,"role":"admin"}],
"currency":"USD"}"#;

fn list<T: Record>(body: &str) -> Listing<T> {
    listing(page::<T>(body.as_bytes()).unwrap().records.unwrap(), Vec::new())
}

fn deployments(body: &str) -> Listing<Deployment> {
    list(body)
}

/// The sample with one field's value replaced, or the field removed.
fn with(field: &str, value: Option<&str>) -> String {
    let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(DEPLOYMENT).unwrap();
    map.remove(field);
    let rest = serde_json::to_string(&map).unwrap();
    match value {
        Some(value) => rest.replacen('{', &format!("{{\"{field}\":{value},"), 1),
        None => rest,
    }
}

#[test]
fn the_documented_deployment_is_read() {
    let read = one::<Deployment>(DEPLOYMENT.as_bytes()).unwrap();
    assert_eq!((read.id.as_str(), read.team.as_str(), &*read.name), ("65a1", "team_1", "My GPU Instance"));
    assert_eq!((read.hourly_rate, read.total_cost), (Usd::from_cents(50), Usd::from_cents(1_250)));
    assert_eq!((read.status, read.gpu_count, read.instance_type.as_str()), (Status::Running, 1, "DEDICATED"));
    assert_eq!(read.started_at, Time::parse_rfc3339("2024-01-15T10:30:00Z"));
    assert_eq!((read.stopped_at, read.kubernetes), (None, true));
}

#[test]
fn the_documented_volume_and_balances_are_read() {
    let volumes: Listing<Volume> =
        list(&format!(r#"{{"volumes":[{VOLUME}],"total":1,"page":1,"limit":20,"totalPages":1}}"#));
    let volume = &volumes.items[0];
    assert_eq!((volume.id.as_str(), &volume.status), ("v1", &VolumeStatus::Attached));
    assert_eq!((volume.size_bytes, volume.used_bytes), (100_000_000_000, 52_428_800_000));
    assert_eq!(
        (volume.hourly_rate, &volume.attached_to),
        (Usd::from_nanos(13_700_000), &vec![DeploymentId::new("65a1")])
    );
    let balances: Listing<Balance> = list(BALANCES);
    let amounts: Vec<_> = balances.items.iter().map(|row| (row.team.as_str(), row.balance)).collect();
    assert_eq!(amounts, [("team_1", Usd::from_cents(2_550)), ("team_2", Usd::from_cents(15_075))]);
    assert!(balances.is_whole());
}

#[test]
fn fault_02_unknown_statuses_types_providers_and_fields_are_accepted() {
    let odd = DEPLOYMENT
        .replace("\"running\"", "\"hibernating\"")
        .replace("DEDICATED", "quantum")
        .replace("spheron-ai", "new-cloud")
        .replacen('{', r#"{"brandNew":{"deep":[1,{"er":null}]},"#, 1);
    let read = deployments(&format!("[{odd}]"));
    assert!(read.is_whole());
    let read = &read.items[0];
    assert_eq!(read.status, Status::Unknown("hibernating".into()));
    assert!(read.bills(), "what is not known to have ended bills");
    assert_eq!((read.instance_type.as_str(), &*read.provider), ("QUANTUM", "new-cloud"));
}

#[test]
fn fault_03_money_that_cannot_be_believed_makes_the_record_unknown() {
    for field in ["hourlyRate", "totalCost"] {
        for bad in [
            None,
            Some("null"),
            Some("\"0.50\""),
            Some("-0.01"),
            Some("1e400"),
            Some("1e10"),
            Some("[1]"),
            Some("true"),
        ] {
            let read = deployments(&format!("[{},{}]", with(field, bad), DEPLOYMENT.replace("65a1", "good")));
            assert_eq!(read.items.len(), 1, "{field} {bad:?}: the other record is read");
            assert_eq!(read.items[0].id.as_str(), "good");
            let unreadable = &read.unreadable[0];
            assert_eq!(unreadable.id.as_deref(), Some("65a1"));
            assert_eq!(
                &*unreadable.why,
                format!("deployment 65a1: {field} is missing or no believable amount of money")
            );
        }
    }
    for bad in ["null", "\"25\"", "-3", "1e400"] {
        let read: Listing<Balance> = list(&BALANCES.replace("25.50", bad));
        assert_eq!((read.items.len(), read.unreadable[0].id.as_deref()), (1, Some("team_1")), "{bad}");
        let flat = format!(r#"{{"teamId":"team_1","balance":{bad}}}"#);
        assert!(balances::<Balance>(flat.as_bytes()).is_err(), "{bad}");
    }
    let read: Listing<Volume> = list(&format!("[{}]", VOLUME.replace("0.0137", "null")));
    assert_eq!(&*read.unreadable[0].why, "volume v1: hourlyRate is missing or no believable amount of money");
}

#[test]
fn what_makes_a_record_unknown_is_told_by_field_and_never_by_value() {
    for (field, value, why) in [
        ("createdAt", Some("\"SECRET\""), "createdAt is missing or no time"),
        ("createdAt", None, "createdAt is missing or no time"),
        ("teamId", Some("{\"SECRET\":1}"), "teamId is missing, empty, too long or no text"),
        ("status", Some("null"), "status is missing, empty, too long or no text"),
        ("name", Some("[\"SECRET\"]"), "a field stands twice or has an unexpected type"),
        ("hourlyRate", Some("\"SECRET\""), "hourlyRate is missing or no believable amount of money"),
    ] {
        let read = deployments(&format!("[{}]", with(field, value)));
        assert_eq!(&*read.unreadable[0].why, format!("deployment 65a1: {why}"));
    }
    let twice = DEPLOYMENT.replacen('{', r#"{"hourlyRate":0,"#, 1);
    assert_eq!(deployments(&format!("[{twice}]")).unreadable.len(), 1, "which of two rates would count?");
}

#[test]
fn a_bad_record_is_unknown_not_a_failed_list() {
    for bad in ["null", "1", "[]", "\"text\"", "{}", "{\"id\":7}", "1e400", "\"\\ud800\""] {
        let read = deployments(&format!("[{bad},{DEPLOYMENT}]"));
        assert_eq!((read.items.len(), read.unreadable.len()), (1, 1), "{bad}");
        assert!(!read.is_whole());
    }
}

#[test]
fn ids_are_never_cut_and_other_texts_are() {
    for id in ["\"\"", &format!("\"{}\"", "x".repeat(201)), "null", "7"] {
        let read = deployments(&format!("[{}]", with("id", Some(id))));
        assert_eq!((read.items.len(), &read.unreadable[0].id), (0, &None), "{id}");
    }
    assert_eq!(
        deployments(&format!("[{}]", with("id", Some(&format!("\"{}\"", "ä".repeat(200)))))).items.len(),
        1
    );
    let name = format!("\"{}\"", "ä".repeat(10_000));
    let read = deployments(&format!("[{}]", with("name", Some(&name))));
    assert_eq!(read.items[0].name.chars().count(), 256);
    let mongo = DEPLOYMENT.replace("\"id\":", "\"_id\":");
    assert_eq!(deployments(&format!("[{mongo}]")).items[0].id.as_str(), "65a1");
}

#[test]
fn missing_names_and_details_are_empty_and_a_time_without_zone_is_utc() {
    let bare = r#"{"id":"a","teamId":"t","status":"deploying","hourlyRate":1,"totalCost":0,"createdAt":"2024-01-15T10:30:00"}"#;
    let read = one::<Deployment>(bare.as_bytes()).unwrap();
    assert_eq!((&*read.name, &*read.region, read.gpu_count, read.kubernetes), ("", "", 0, false));
    assert_eq!(Some(read.created_at), Time::parse_rfc3339("2024-01-15T10:30:00Z"));
}

#[test]
fn lists_come_bare_or_in_an_object() {
    for body in [
        format!("[{DEPLOYMENT}]"),
        format!(r#"{{"deployments":[{DEPLOYMENT}]}}"#),
        format!(r#"{{"total":1,"data":[{DEPLOYMENT}],"totalPages":1}}"#),
    ] {
        assert_eq!(deployments(&body).items.len(), 1, "{body}");
    }
    for body in [
        "{}",
        r#"{"items":[]}"#,
        r#"{"data":{}}"#,
        r#"{"data":null}"#,
        "null",
        "7",
        r#"{"data":[],"deployments":[]}"#,
    ] {
        assert!(page::<Deployment>(body.as_bytes()).is_err(), "{body}");
    }
    let flat = balances::<Balance>(br#"{"teamId":"t","teamName":"T","balance":0,"role":"owner"}"#).unwrap();
    assert_eq!(flat.records.unwrap().items[0].balance, Usd::ZERO);
    assert!(balances::<Balance>(b"{}").is_err());
}

#[test]
fn fault_04_a_balance_answer_without_a_team_is_just_whole() {
    let read: Listing<Balance> = list(r#"{"teams":[],"currency":"USD"}"#);
    assert!(read.is_whole() && read.items.is_empty());
}

#[test]
fn fault_07_a_duplicate_id_makes_the_list_suspect_and_the_first_is_kept() {
    let read = deployments(&format!("[{DEPLOYMENT},{}]", DEPLOYMENT.replace("My GPU", "Other")));
    assert_eq!((read.items.len(), &*read.items[0].name), (1, "My GPU Instance"));
    assert_eq!(read.suspect.as_deref(), Some("deployment 65a1 is listed twice"));
}

#[test]
fn fault_24_a_kubeconfig_is_dropped_at_decode_and_appears_nowhere() {
    let listed = deployments(&format!("[{DEPLOYMENT},{}]", with("hourlyRate", None)));
    assert!(listed.items[0].kubernetes);
    assert_eq!(listed.unreadable.len(), 1);
    let shown = format!("{listed:?}");
    assert!(!shown.contains("SECRET-KUBE") && !shown.contains("apiVersion"), "{shown}");
    let stored = serde_json::to_string(&listed.items[0]).unwrap();
    assert!(!stored.contains("SECRET-KUBE") && !stored.contains("ssh "), "{stored}");
    assert!(!deployments(&format!("[{}]", with("kubernetesAddon", Some("null")))).items[0].kubernetes);
}

#[test]
fn an_offer_costs_what_this_account_would_pay() {
    let offer = |extra: &str| {
        format!(
            r#"{{"provider":"p","offerId":"o","gpuCount":8,"price":2,"available":true,"instanceType":"spot","region":"r"{extra}}}"#
        )
    };
    let body = format!(
        r#"{{"data":[{{"gpuType":"h100","offers":[{},{},{},{}]}}],"total":1,"page":1,"limit":10,"totalPages":1}}"#,
        offer(""),
        offer(r#","hasDiscount":true,"discountedPrice":1.5"#),
        offer(r#","hasDiscount":false,"discountedPrice":null"#),
        offer(r#","hasDiscount":true,"discountedPrice":null"#),
    );
    let groups = page::<OfferGroup>(body.as_bytes()).unwrap().records.unwrap();
    let offers: &Records<Offer> = &groups.items[0].0;
    let prices: Vec<_> = offers.items.iter().map(|offer| offer.price).collect();
    assert_eq!(prices, [Usd::from_cents(200), Usd::from_cents(150), Usd::from_cents(200)]);
    assert_eq!(
        &*offers.unreadable[0].why,
        "offer o: discountedPrice is missing or no believable amount of money"
    );
    assert_eq!((&*offers.items[0].gpu_type, offers.items[0].instance_type.is_spot()), ("h100", true));
}

#[test]
fn can_terminate_needs_every_field_and_rounds_minutes_up() {
    let read = |body: &str| can_terminate(body.as_bytes());
    let good = read(r#"{"canTerminate":true,"runtime":25,"timeRemaining":0.2,"minimumRuntime":20}"#).unwrap();
    assert_eq!((good.can_terminate, good.minutes_remaining, good.minutes_minimum), (true, 1, 20));
    for bad in [
        r#"{"canTerminate":true,"runtime":25,"timeRemaining":0}"#,
        r#"{"canTerminate":true,"timeRemaining":0,"minimumRuntime":20}"#,
        r#"{"canTerminate":"true","runtime":25,"timeRemaining":0,"minimumRuntime":20}"#,
        r#"{"canTerminate":true,"runtime":25,"timeRemaining":-1,"minimumRuntime":20}"#,
        r#"{"canTerminate":true,"runtime":25,"timeRemaining":null,"minimumRuntime":20}"#,
        r#"{"canTerminate":true,"runtime":25,"timeRemaining":1e300,"minimumRuntime":20}"#,
        "{}",
        "",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn hostile_lists_are_bounded() {
    let many = format!("[{}]", vec!["1"; 200_000].join(","));
    let read = deployments(&many);
    assert_eq!((read.items.len(), read.unreadable.len()), (0, 1_000));
    assert_eq!(read.suspect.as_deref(), Some("only 1000 of 200000 deployments were taken in"));
    let huge = format!("[{}]", with("extras", Some(&format!("\"{}\"", "x".repeat(300_000)))));
    assert!(deployments(&huge).unreadable[0].why.contains("bytes is not believable"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let _ = page::<Deployment>(deep.as_bytes());
    let _ = page::<Deployment>(with("extras", Some(&deep)).as_bytes());
}

#[test]
fn errors_quote_the_envelope_and_nothing_else() {
    let body =
        ErrorBody::read(br#"{"error":"Not\r\nfound","code":"NOT_FOUND","details":{"kubeconfig":"SECRET"}}"#);
    assert_eq!(
        (body.code.as_deref(), body.error.as_deref(), body.is_object),
        (Some("NOT_FOUND"), Some("Notfound"), true)
    );
    assert!(!format!("{body:?}").contains("SECRET"));
    let long = ErrorBody::read(format!(r#"{{"error":"{}"}}"#, "x".repeat(5_000)).as_bytes());
    assert_eq!(long.error.unwrap().chars().count(), 201);
    for other in ["", "<html>", "[]", "null", "[\"a\",\"b\",\"c\",\"d\"]"] {
        assert!(!ErrorBody::read(other.as_bytes()).is_object, "{other}");
    }
}

#[test]
fn a_damaged_body_is_told_by_place_and_never_by_content() {
    for (body, why) in [
        ("", "the answer is empty or ends too early"),
        ("[{\"id\":\"SECR", "the answer is empty or ends too early"),
        ("<html>SECRET", "the answer is not JSON (line 1, column 1)"),
        ("\"SECRET\"", "the answer is not what the API documents (line 1, column 8)"),
        ("[] SECRET", "the answer is not JSON (line 1, column 4)"),
    ] {
        assert_eq!(page::<Deployment>(body.as_bytes()).unwrap_err(), why);
    }
}

fn decode_everything(body: &[u8]) {
    let _ = page::<Deployment>(body);
    let _ = page::<Volume>(body);
    let _ = page::<OfferGroup>(body);
    let _ = balances::<Balance>(body);
    let _ = one::<Deployment>(body);
    let _ = one::<Volume>(body);
    let _ = can_terminate(body);
    let _ = ErrorBody::read(body);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode_everything(&body);
    }

    #[test]
    fn no_mutation_of_a_real_answer_makes_the_decoder_panic_or_invent_money(
        at in any::<proptest::sample::Index>(), len in 0_usize..6, patch in "[\\[\\]{}\",:0-9eE+.\\-ntufalsr\\\\]{0,6}",
    ) {
        for sample in [DEPLOYMENT, VOLUME, BALANCES] {
            let start = at.index(sample.len());
            let end = (start + len).min(sample.len());
            let mut body = sample.as_bytes().to_vec();
            body.splice(start..end, patch.bytes());
            decode_everything(&body);
            let list = [b"[", &*body, b"]"].concat();
            decode_everything(&list);
            if let Ok(Page { records: Some(records), .. }) = page::<Deployment>(&list) {
                prop_assert!(records.items.iter().all(|d| d.hourly_rate >= Usd::ZERO && d.total_cost >= Usd::ZERO));
            }
        }
    }
}
