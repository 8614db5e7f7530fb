//! The simulated account keeps the documentation's word, its own books, and its script.
//!
//! It must never be a test of the watcher: only of the world that the watcher is tested against.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::{Value, json};
use spheron_watch::{
    clock::Clock,
    model::{DeploymentId, Status, TeamId, Time, Usd},
    sim::{
        Answer, Ask, AutoTopUp, BadMoney, Conduct, Endpoint, Event, FAKE_KUBECONFIG, Fault, FaultPlan, KEY,
        LimitBody, Spec, VolumeSpec, Window, World, script, serve,
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const START: Time = Time::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z

fn after(minutes: u64) -> Time {
    START.plus(Duration::from_secs(minutes * 60))
}

fn ask(world: &mut World, method: &str, target: &str, now: Time) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let bearer = format!("Bearer {KEY}");
    world.answer(&Ask { method, path, query, authorization: Some(&bearer) }, now)
}

fn get(world: &mut World, target: &str, now: Time) -> Value {
    let answer = ask(world, "GET", target, now);
    assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn refused(answer: &Answer) -> (u16, Value) {
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
}

/// One team with 100 $, and its world.
fn lab() -> (World, TeamId) {
    let mut world = World::new(7, START);
    world.terms.limit = u32::MAX;
    let team = world.add_team("Lab", "owner", Usd::from_cents(10_000));
    (world, team)
}

fn without_faults(mut world: World) -> World {
    world.terms.limit = u32::MAX;
    world
}

/// Same keys at every depth, and the same kind of value wherever the sample is not null.
fn assert_like(sample: &Value, answer: &Value, extra: &[&str], at: &str) {
    match (sample, answer) {
        (Value::Object(want), Value::Object(have)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            let surplus: Vec<String> = keys(have)
                .difference(&keys(want))
                .filter(|k| !extra.contains(&k.as_str()))
                .cloned()
                .collect();
            let lacking: Vec<String> = keys(want).difference(&keys(have)).cloned().collect();
            assert!(
                surplus.is_empty() && lacking.is_empty(),
                "{at}: surplus {surplus:?}, lacking {lacking:?}"
            );
            for (key, value) in want {
                assert_like(value, &have[key], extra, &format!("{at}.{key}"));
            }
        }
        (Value::Array(want), Value::Array(have)) => {
            if let (Some(want), Some(have)) = (want.first(), have.first()) {
                assert_like(want, have, extra, &format!("{at}[0]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (want, have) => {
            let kind = |v: &Value| (v.is_string(), v.is_number(), v.is_boolean());
            assert_eq!(kind(want), kind(have), "{at}: {want} against {have}");
        }
    }
}

/// The samples of `reference.txt`.
fn sample_deployment() -> Value {
    json!({
        "id": "deployment_id", "name": "My GPU Instance", "userId": "user_id", "teamId": "team_id",
        "gpuModelId": "rtx-4090-spheron-ai-1", "gpuType": "rtx-4090", "offerId": "rtx-4090-spheron-ai-1",
        "providerId": "spheron-ai", "gpuCount": 1, "region": "us-east-1", "operatingSystem": "ubuntu-20.04",
        "instanceType": "DEDICATED", "sshKeyId": "ssh_key_id_here", "tempSshKeyId": null,
        "sshKeyName": "My SSH Key", "sshKeyFingerprint": "SHA256:abc123...", "ipAddress": "192.168.1.100",
        "user": "ubuntu", "status": "running", "startedAt": "2024-01-15T10:30:00Z", "stoppedAt": null,
        "lastCreditDeduction": "2024-01-15T11:30:00Z", "totalCost": 12.50, "hourlyRate": 0.50,
        "hasDiscount": false, "discountPercentage": 0, "originalHourlyRate": 0.50, "vcpus": 8, "memory": 32,
        "storage": 100, "sshCommand": "ssh ubuntu@192.168.1.100", "sshPort": 22, "portForwards": [],
        "kubernetesAddon": {
            "version": "1.35", "kubeconfig": "apiVersion: v1\nclusters:...",
            "k8s_cluster_id": "550e8400-e29b-41d4-a716-446655440000",
            "service_links": ["https://grafana-cluster-id.voltagepark.com"], "restore": false,
            "note": "Only present for deployments with Kubernetes addon"
        },
        "createdAt": "2024-01-15T10:30:00Z"
    })
}

fn sample_volumes() -> Value {
    json!({
        "volumes": [{
            "id": "volume_internal_id", "volumeId": "vol_abc123", "name": "my-data-volume", "userId": "user_id",
            "teamId": "team_id", "providerId": "voltage-park", "sizeInGb": 100, "usedCapacityBytes": 52428800000_u64,
            "virtualIp": "192.168.100.50", "attachedToDeploymentIds": ["deployment_id_1"],
            "attachedToOrderIds": ["order_123"], "status": "attached", "hourlyRate": 0.0137,
            "lastPriceUpdate": "2026-02-07T10:30:00Z", "createdAt": "2026-02-07T10:00:00Z",
            "lastAttachedAt": "2026-02-07T10:15:00Z"
        }],
        "total": 5, "page": 1, "limit": 20, "totalPages": 1
    })
}

fn sample_offers() -> Value {
    json!({
        "data": [{
            "gpuType": "rtx-4090", "gpuModel": "RTX 4090", "baseGpuType": "rtx-4090",
            "interconnectVariants": ["PCIe"], "hasMultipleVariants": false, "displayName": "RTX 4090",
            "popularity": 85, "totalAvailable": 12, "lowestPrice": 0.45, "highestPrice": 0.65, "averagePrice": 0.55,
            "providers": ["spheron-ai", "voltage-park"],
            "offers": [{
                "provider": "spheron-ai", "offerId": "rtx-4090-spheron-ai-1-dedicated", "name": "RTX 4090",
                "description": "High-performance gaming and AI GPU", "vcpus": 8, "memory": 32, "storage": 100,
                "gpuCount": 1, "price": 0.50, "available": true, "clusters": ["us-east-1", "us-west-2"],
                "region": "us-east-1", "gpu_memory": 24, "os_options": ["ubuntu-20.04", "ubuntu-22.04"],
                "maintenance": false, "interconnectType": "PCIe", "interconnectDescription": "PCIe interface",
                "instanceType": "DEDICATED", "supportsCloudInit": true,
                "extras": { "deployment_type": "vm", "networking_type": "standard" }
            }]
        }],
        "total": 50, "page": 1, "limit": 10, "totalPages": 5
    })
}

#[test]
fn a_deployment_has_every_field_of_the_samples_and_no_other() {
    let (mut world, team) = lab();
    let mut spec = Spec::new(&team, "k8s").kind("CLUSTER").boot(Duration::from_secs(45));
    spec.kubernetes = true;
    let id = world.deploy(START, spec);
    let young = get(&mut world, &format!("/api/deployments/{id}"), START);
    assert_eq!(
        [&young["status"], &young["startedAt"], &young["ipAddress"], &young["lastCreditDeduction"]],
        [&json!("deploying"), &Value::Null, &Value::Null, &Value::Null]
    );
    let list = get(&mut world, "/api/deployments", after(61));
    assert_like(&sample_deployment(), &list[0], &[], "list");
    assert_eq!([&list[0]["totalCost"], &list[0]["hourlyRate"]], [&json!(0.5), &json!(0.5)]);
    assert_eq!(list[0]["lastCreditDeduction"], json!("2026-01-01T01:00:00Z"));
    assert_eq!(list[0]["startedAt"], json!("2026-01-01T00:00:45Z"));
    assert!(list[0]["kubernetesAddon"]["kubeconfig"].as_str().unwrap().contains(FAKE_KUBECONFIG));
    let detail = get(&mut world, &format!("/api/deployments/{id}"), after(61));
    assert_eq!(detail["extras"], json!({}));
    assert_like(&list[0], &detail, &["extras"], "detail");
    world.deploy(after(62), Spec::new(&team, "plain"));
    let plain = get(&mut world, "/api/deployments", after(62));
    assert!(plain[1].get("kubernetesAddon").is_none(), "only where it was asked for");
}

#[test]
fn balance_volumes_and_offers_have_every_field_of_the_samples_and_no_other() {
    let (mut world, team) = lab();
    let id = world.deploy(START, Spec::new(&team, "a"));
    let mut volume = VolumeSpec::new(&team, "data", 100);
    volume.attach_to = Some(id);
    world.add_volume(START, volume);
    let sample = json!({ "teams": [{ "teamId": "team_1", "teamName": "My Personal Team", "balance": 25.50,
        "isCurrentTeam": true, "role": "owner" }], "currency": "USD" });
    assert_like(&sample, &get(&mut world, "/api/balance", START), &[], "balance");
    let volumes = get(&mut world, "/api/volumes", START);
    assert_like(&sample_volumes(), &volumes, &[], "volumes");
    assert_eq!(volumes["volumes"][0]["hourlyRate"], json!(0.0137), "100 GB at the published price");
    let discount = ["originalPrice", "discountedPrice", "discountPercentage", "hasDiscount"];
    assert_like(&sample_offers(), &get(&mut world, "/api/gpu-offers", START), &discount, "offers");
    let stranger = Ask { method: "GET", path: "/api/gpu-offers", query: "", authorization: None };
    let public = serde_json::from_slice(&world.answer(&stranger, START).body).unwrap();
    assert_like(&sample_offers(), &public, &[], "public offers");
}

#[test]
fn lists_are_paged_where_the_documentation_pages_them() {
    let (mut world, team) = lab();
    for i in 0..45 {
        world.add_volume(START, VolumeSpec::new(&team, &format!("v{i}"), 10));
        world.deploy(START, Spec::new(&team, "a"));
    }
    assert_eq!(
        get(&mut world, "/api/deployments", START).as_array().unwrap().len(),
        45,
        "a bare array, whole"
    );
    let names = |page: &Value| {
        let volumes = page["volumes"].as_array().unwrap();
        volumes.iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let pages: Vec<Value> =
        (1..=4).map(|page| get(&mut world, &format!("/api/volumes?page={page}"), START)).collect();
    assert_eq!(pages.iter().map(|p| names(p).len()).collect::<Vec<_>>(), [20, 20, 5, 0]);
    assert_eq!((&pages[2]["total"], &pages[2]["totalPages"]), (&json!(45), &json!(3)));
    assert_eq!(pages.iter().flat_map(names).collect::<BTreeSet<_>>().len(), 45, "no volume twice");
    let offers: Vec<usize> = (1..=3)
        .map(|page| {
            get(&mut world, &format!("/api/gpu-offers?page={page}"), START)["data"].as_array().unwrap().len()
        })
        .collect();
    assert_eq!(offers, [10, 4, 0]);
}

#[test]
fn status_filters_behave_as_observed() {
    let (mut world, team) = lab();
    let ids: BTreeMap<&str, DeploymentId> =
        ["running", "stopped", "odd", "failed", "terminated", "terminated-provider", "deploying"]
            .into_iter()
            .map(|name| {
                let boot = if name == "deploying" { Duration::from_secs(9_999) } else { Duration::ZERO };
                (name, world.deploy(START, Spec::new(&team, name).boot(boot)))
            })
            .collect();
    world.at(after(1), Event::Stop(ids["stopped"].clone()));
    world.at(after(1), Event::SetStatus(ids["odd"].clone(), "hibernating".to_owned()));
    world.at(after(1), Event::Fail(ids["failed"].clone()));
    world.at(after(1), Event::UserTerminate(ids["terminated"].clone()));
    world.at(after(1), Event::ProviderStop(ids["terminated-provider"].clone()));
    let mut names = |filter: &str| {
        let list = get(&mut world, &format!("/api/deployments{filter}"), after(2));
        list.as_array()
            .unwrap()
            .iter()
            .map(|d| d["name"].as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names("?status=active"), set(&["running", "stopped", "deploying"]));
    assert_eq!(names("?status=inactive"), set(&["failed", "terminated", "terminated-provider"]));
    assert_eq!(names("?status=hibernating"), set(&["odd"]));
    assert_eq!(names("").len(), 7, "the inventory holds all, the unknown status too");
}

#[test]
fn the_minimum_runtime_is_enforced_in_the_observed_shapes() {
    let (mut world, team) = lab();
    let id = world.deploy(START, Spec::new(&team, "young"));
    let (path, check) = (format!("/api/deployments/{id}"), format!("/api/deployments/{id}/can-terminate"));
    let later = START.plus(Duration::from_secs(17 * 60 + 1));
    assert_eq!(
        get(&mut world, &check, later),
        json!({ "canTerminate": false, "runtime": 17, "timeRemaining": 3, "minimumRuntime": 20 })
    );
    let (status, body) = refused(&ask(&mut world, "DELETE", &path, later));
    assert_eq!((status, &body["error"]), (400, &json!("Minimum runtime not met")));
    assert_eq!(
        (&body["timeRemaining"], &body["canTerminate"], body.get("code")),
        (&json!(3), &json!(false), None)
    );
    assert_eq!(get(&mut world, &check, after(20))["canTerminate"], json!(true));
    let begun = refused(&ask(&mut world, "DELETE", &path, after(20)));
    let deployment = json!({ "id": id, "status": "terminated", "stoppedAt": "2026-01-01T00:20:00Z" });
    assert_eq!(
        begun,
        (200, json!({ "message": "Instance destruction initiated", "deployment": deployment }))
    );
    assert_eq!(get(&mut world, &path, after(20))["status"], json!("running"), "initiated, not done");
    assert_eq!(get(&mut world, &path, after(21))["status"], json!("terminated"));
    let (status, body) = refused(&ask(&mut world, "DELETE", &path, after(22)));
    assert_eq!((status, &body["error"]), (400, &json!("Cannot terminate instance")));
    assert_eq!((&body["currentStatus"], body.get("code")), (&json!("terminated"), None));
    assert_eq!(get(&mut world, &check, after(22))["canTerminate"], json!(false));
    assert_eq!(world.mutations().len(), 3);
}

#[test]
fn refusals_carry_the_documented_envelope_and_wrong_paths_are_the_web_app() {
    let (mut world, team) = lab();
    let id = world.deploy(START, Spec::new(&team, "a"));
    world.advance(START);
    let code = |answer: Answer| (answer.status, refused(&answer).1["code"].as_str().unwrap().to_owned());
    for target in ["/api/deployments/nobody", "/api/deployments/nobody/can-terminate", "/api/volumes/nobody"]
    {
        assert_eq!(code(ask(&mut world, "GET", target, START)), (404, "NOT_FOUND".to_owned()), "{target}");
    }
    for target in
        ["/api/deployments?teamId=strangers", "/api/balance?teamId=strangers", "/api/deployments?userId=x"]
    {
        assert_eq!(code(ask(&mut world, "GET", target, START)), (403, "FORBIDDEN".to_owned()), "{target}");
    }
    assert_eq!(code(ask(&mut world, "POST", "/api/deployments", START)), (403, "FORBIDDEN".to_owned()));
    for authorization in [None, Some("Bearer sai_wrong"), Some(KEY)] {
        let ask = Ask { method: "GET", path: "/api/balance", query: "", authorization };
        assert_eq!(code(world.answer(&ask, START)), (401, "UNAUTHORIZED".to_owned()), "{authorization:?}");
    }
    let page = ask(&mut world, "GET", "/api/deployment", START);
    assert_eq!((page.status, header(&page, "content-type")), (404, Some("text/html; charset=utf-8")));
    world.at(after(1), Event::RevokeKey);
    world.at(after(2), Event::RestoreKey);
    assert_eq!(ask(&mut world, "GET", "/api/balance", after(1)).status, 401);
    assert_eq!(ask(&mut world, "GET", "/api/balance", after(2)).status, 200);
    world.at(after(3), Event::HideTeam(team));
    assert_eq!(get(&mut world, "/api/balance", after(3))["teams"], json!([]));
    assert_eq!(get(&mut world, "/api/deployments", after(3)), json!([]));
    assert_eq!(
        code(ask(&mut world, "GET", &format!("/api/deployments/{id}"), after(3))),
        (403, "FORBIDDEN".to_owned())
    );
}

#[test]
fn fault_23_get_teams_is_counted_and_nothing_else_is() {
    let (mut world, _) = lab();
    get(&mut world, "/api/balance", START);
    assert_eq!((world.teams_created(), world.mutations().len()), (0, 0));
    ask(&mut world, "GET", "/api/teams", START);
    ask(&mut world, "POST", "/api/deployments", START);
    assert_eq!((world.teams_created(), world.mutations().len()), (1, 1));
}

#[test]
fn the_rate_limit_counts_simulated_time_and_says_so_in_headers() {
    let (mut world, _) = lab();
    world.terms.limit = 250;
    let poll = |world: &mut World, secs: u64| {
        let answer = ask(world, "GET", "/api/balance", START.plus(Duration::from_secs(secs)));
        (answer.status, header(&answer, "x-ratelimit-remaining").unwrap().to_owned(), answer)
    };
    let first = poll(&mut world, 0);
    assert_eq!((first.0, &*first.1), (200, "249"));
    assert_eq!(header(&first.2, "x-ratelimit-limit"), Some("250"));
    assert_eq!(header(&first.2, "x-ratelimit-reset"), Some("2026-01-01T00:15:00.000Z"));
    assert_eq!(header(&first.2, "date"), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
    assert!((1..250).all(|secs| poll(&mut world, secs).0 == 200));
    let over = poll(&mut world, 300);
    assert_eq!((over.0, &*over.1), (429, "0"));
    assert_eq!(refused(&over.2).1["retryAfter"], json!(600), "body B");
    assert_eq!(poll(&mut world, 899).0, 429);
    assert_eq!(poll(&mut world, 900).0, 200, "a new window");
    world.at(START.plus(Duration::from_secs(901)), Event::OthersCall(300));
    assert_eq!(poll(&mut world, 902).0, 429, "somebody else behind our address");
    assert_eq!(world.busiest_15m(), 252);
    let stats = &world.calls()["GET /api/balance"];
    assert_eq!((stats.count, stats.shortest_gap), (254, Some(Duration::from_secs(1))));
    assert_eq!(world.call_count("GET", "/api/bal"), 254);
}

#[test]
fn a_spent_balance_ends_everything_of_that_team_and_of_no_other() {
    let (mut world, team) = lab();
    let other = world.add_team("Other", "member", Usd::from_cents(50_000));
    let spared = world.deploy(START, Spec::new(&other, "spared"));
    let (a, b) = (
        world.deploy(START, Spec::new(&team, "a").rate(Usd::from_cents(700))),
        world.deploy(after(90), Spec::new(&team, "b").rate(Usd::from_cents(333))),
    );
    let mut volume = VolumeSpec::new(&team, "v", 100);
    volume.attach_to = Some(a.clone());
    let volume = world.add_volume(START, volume);
    world.advance(after(120));
    let end = world.empties_at(&team).unwrap();
    world.advance(Time::from_millis(end.millis() - 1));
    assert!(world.emptied().is_empty(), "not a millisecond early");
    world.advance(end);
    assert_eq!(world.emptied(), [(end, team.clone())]);
    assert_eq!([world.status(&a), world.status(&b)], [Some(&Status::Terminated); 2]);
    assert_eq!(world.status(&spared), Some(&Status::Running));
    assert_eq!(world.balance(&team), Usd::ZERO);
    assert_eq!(world.deducted(&team), Usd::from_cents(10_000));
    let balance = get(&mut world, "/api/balance", after(24 * 60));
    assert_eq!(balance["teams"][0]["balance"], json!(0));
    let gone = get(&mut world, &format!("/api/volumes/{volume}"), after(24 * 60));
    assert_eq!((&gone["status"], &gone["attachedToDeploymentIds"]), (&json!("deleted"), &json!([])));
    let late = world.deploy(after(25 * 60), Spec::new(&team, "late"));
    world.advance(after(26 * 60));
    assert_eq!(world.status(&late), None, "nothing starts without a balance");
}

#[test]
fn a_top_up_in_time_saves_the_team_and_a_saved_card_does_it_by_itself() {
    let (mut world, team) = lab();
    let id = world.deploy(START, Spec::new(&team, "a").rate(Usd::from_cents(1_000)));
    world.advance(START);
    assert_eq!(world.empties_at(&team), Some(after(600)));
    world.at(after(600), Event::TopUp(team.clone(), Usd::from_cents(1_000)));
    world.advance(after(601));
    assert_eq!(world.status(&id), Some(&Status::Running), "in the very last millisecond");
    let rule = AutoTopUp { below: usd(50), amount: usd(100), after: Duration::from_secs(300) };
    let (mut world, team) = lab();
    world.auto_top_up(&team, rule);
    world.deploy(START, Spec::new(&team, "a").rate(usd(10)));
    world.advance(after(24 * 60));
    assert!(world.emptied().is_empty());
    assert_eq!(world.paid_in(&team).len(), 3, "the first payment and two top-ups in a day of 240 $");
}

#[test]
fn deductions_step_and_the_end_pays_the_remainder() {
    let (mut world, team) = lab();
    let id = world.deploy(after(7), Spec::new(&team, "a").rate(usd(6)));
    world.at(after(97), Event::ChangeRate(id.clone(), usd(12)));
    world.at(after(197), Event::UserTerminate(id.clone()));
    let mut cost = |minutes: u64| {
        world.advance(after(minutes));
        (world.cost(&id).unwrap(), world.true_cost_at(&id, after(minutes)).unwrap(), world.balance(&team))
    };
    assert_eq!(cost(66), (Usd::ZERO, Usd::from_cents(590), usd(100)));
    assert_eq!(cost(67), (usd(6), usd(6), usd(94)));
    assert_eq!(cost(127), (usd(15), usd(15), usd(85)), "half an hour at each rate");
    assert_eq!(cost(300), (usd(29), usd(29), usd(71)), "70 minutes more at 12 $/h");
    assert_eq!(world.balance_at(&team, after(100)), Some(usd(94)));
    assert_eq!(world.true_balance_at(&team, after(97)), usd(91));
    assert_eq!(world.status_at(&id, after(196)), Some(&Status::Running));
    assert_eq!(world.status_at(&id, after(197)), Some(&Status::Terminated));
    assert_eq!(world.status_at(&id, after(6)), None);
}

#[test]
fn only_spot_is_reclaimed_and_volumes_survive_their_machine() {
    let (mut world, team) = lab();
    let spot = world.deploy(START, Spec::new(&team, "spot").kind("SPOT"));
    let dedicated = world.deploy(START, Spec::new(&team, "dedicated"));
    let mut volume = VolumeSpec::new(&team, "v", 100);
    volume.attach_to = Some(spot.clone());
    let volume = world.add_volume(START, volume);
    world.at(after(10), Event::Reclaim(spot.clone()));
    world.at(after(10), Event::Reclaim(dedicated.clone()));
    let gone = get(&mut world, &format!("/api/deployments/{spot}"), after(11));
    assert_eq!(
        (&gone["status"], &gone["stoppedAt"]),
        (&json!("terminated-provider"), &json!("2026-01-01T00:10:00Z"))
    );
    assert_eq!(world.status(&dedicated), Some(&Status::Running));
    let left = get(&mut world, &format!("/api/volumes/{volume}"), after(11));
    assert_eq!(
        (&left["status"], &left["lastDetachedAt"]),
        (&json!("available"), &json!("2026-01-01T00:10:00Z"))
    );
    world.at(after(20), Event::ProviderStop(dedicated.clone()));
    world.advance(after(20));
    assert_eq!(world.status(&dedicated), Some(&Status::TerminatedProvider));
}

#[test]
fn fault_20_a_used_id_and_a_resurrection_are_shown_as_the_api_would() {
    let (mut world, team) = lab();
    let id = world.deploy(START, Spec::new(&team, "first"));
    world.at(after(30), Event::UserTerminate(id.clone()));
    world.deploy(after(60), Spec { id: Some(id.clone()), ..Spec::new(&team, "second") });
    let list = get(&mut world, "/api/deployments", after(61));
    assert_eq!(list.as_array().unwrap().len(), 1, "the old one is no longer shown");
    assert_eq!((&list[0]["name"], &list[0]["createdAt"]), (&json!("second"), &json!("2026-01-01T01:00:00Z")));
    world.at(after(90), Event::UserTerminate(id.clone()));
    world.at(after(120), Event::SetStatus(id.clone(), "running".to_owned()));
    let back = get(&mut world, &format!("/api/deployments/{id}"), after(180));
    assert_eq!((&back["status"], &back["stoppedAt"]), (&json!("running"), &Value::Null));
    assert_eq!(back["totalCost"], json!(0.75), "half an hour and an hour");
    assert_eq!(world.deducted(&team), usd(1), "the first one's half hour is not forgotten");
}

/// Every fault once, on a list of three and a balance of two.
fn faulted(fault: Fault, target: &str) -> (Answer, Answer) {
    let (mut world, team) = lab();
    world.add_team("Second", "member", usd(5));
    for name in ["a", "b", "c"] {
        world.deploy(START, Spec::new(&team, name));
    }
    let honest = ask(&mut world, "GET", target, START);
    world.faults.add(Window { from: after(1), until: after(2), on: None, what: fault });
    let bad = ask(&mut world, "GET", target, after(1));
    assert!(honest.honest && !bad.honest, "an oracle can tell them apart");
    assert!(ask(&mut world, "GET", target, after(2)).honest, "over at its end");
    (honest, bad)
}

#[test]
fn each_fault_does_what_it_says() {
    let list = "/api/deployments";
    let count = |answer: &Answer| serde_json::from_slice::<Vec<Value>>(&answer.body).map(|l| l.len()).ok();
    let on_list = |fault| faulted(fault, list).1;
    let a = on_list(Fault::TooMany { body: LimitBody::A, reset_header: false });
    assert_eq!((a.status, header(&a, "x-ratelimit-reset")), (429, None));
    assert_eq!(refused(&a).1["error"], json!("Rate limit exceeded. Try again in 14 minutes"));
    let b = on_list(Fault::TooMany { body: LimitBody::B, reset_header: true });
    assert_eq!((b.status, &refused(&b).1["retryAfter"]), (429, &json!(840)));
    assert_eq!(refused(&on_list(Fault::ServerError)).0, 500);
    let html = on_list(Fault::Html);
    assert_eq!((html.status, header(&html, "content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(on_list(Fault::EmptyBody).body, b"");
    let (whole, cut) = faulted(Fault::Truncated, list);
    assert!(whole.body.starts_with(&cut.body) && count(&cut).is_none());
    assert_eq!(on_list(Fault::EmptyList).body, b"[]");
    assert_eq!(count(&on_list(Fault::MissingRecord { nth: 1 })), Some(2));
    assert_eq!(count(&on_list(Fault::DuplicateRecord { nth: 1 })), Some(4));
    assert_eq!(count(&on_list(Fault::HiddenLimit(1))), Some(1));
    let moved = on_list(Fault::Redirect("https://elsewhere.example/".to_owned()));
    assert_eq!((moved.status, header(&moved, "location")), (302, Some("https://elsewhere.example/")));
    assert_eq!(header(&on_list(Fault::WrongContentType), "content-type"), Some("text/plain"));
    let (small, big) = faulted(Fault::Oversized(9 << 20), list);
    assert_eq!((big.body.len() - small.body.len(), count(&big)), (9 << 20, Some(3)));
    let (_, teams) = faulted(Fault::MissingTeam { nth: 1 }, "/api/balance");
    assert_eq!(refused(&teams).1["teams"].as_array().unwrap().len(), 1);
    let skewed = on_list(Fault::SkewedDate(-3_600));
    assert_eq!(header(&skewed, "date"), Some("Wed, 31 Dec 2025 23:01:00 GMT"));
    let drip = Fault::Drip { bytes: 100, every: Duration::from_secs(1) };
    assert!(on_list(drip).takes().unwrap() > Duration::from_secs(20));
    assert_eq!(on_list(Fault::Delay(Duration::from_secs(9))).takes(), Some(Duration::from_secs(9)));
    for (fault, conduct) in
        [(Fault::Hang, Conduct::Hang), (Fault::Reset, Conduct::Reset), (Fault::Cut, Conduct::Cut)]
    {
        assert_eq!(on_list(fault).conduct, conduct);
    }
}

#[test]
fn bad_money_spoils_one_record_and_leaves_the_others() {
    for (how, text) in [
        (BadMoney::Null, "\"hourlyRate\":null"),
        (BadMoney::Text, "\"hourlyRate\":\"12.50\""),
        (BadMoney::Negative, "\"hourlyRate\":-12.5"),
        (BadMoney::Huge, "\"hourlyRate\":1e400"),
    ] {
        let (_, bad) = faulted(Fault::BadMoney { nth: 1, how }, "/api/deployments");
        let body = String::from_utf8(bad.body).unwrap();
        assert_eq!(
            (body.matches(text).count(), body.matches("\"hourlyRate\":0.5,").count()),
            (1, 2),
            "{body}"
        );
    }
    let (_, bad) = faulted(Fault::BadMoney { nth: 0, how: BadMoney::Missing }, "/api/balance");
    let teams = &refused(&bad).1["teams"];
    assert_eq!((teams[0].get("balance"), &teams[1]["balance"]), (None, &json!(5)));
}

#[test]
fn a_fault_on_one_endpoint_or_team_leaves_the_others_honest() {
    let (mut world, team) = lab();
    let other = world.add_team("Other", "member", usd(5));
    let window = |on, what| Window { from: START, until: after(10), on, what };
    world.faults.add(window(Some(Endpoint::Balance), Fault::ServerError));
    world.faults.add(window(None, Fault::Forbidden { team: 1 }));
    assert_eq!(ask(&mut world, "GET", "/api/balance", START).status, 500);
    assert!(ask(&mut world, "GET", "/api/deployments", START).honest);
    assert!(ask(&mut world, "GET", &format!("/api/deployments?teamId={team}"), START).honest);
    assert_eq!(ask(&mut world, "GET", &format!("/api/deployments?teamId={other}"), START).status, 403);
    assert_eq!(
        [world.last_honest(Endpoint::Balance), world.last_honest(Endpoint::Deployments)],
        [None, Some(START)]
    );
}

#[test]
fn fault_18_a_lost_answer_has_had_its_effect_and_a_reset_has_not() {
    for (fault, ended) in [(Fault::LostAnswer, Status::Terminated), (Fault::Reset, Status::Running)] {
        let (mut world, team) = lab();
        let id = world.deploy(START, Spec::new(&team, "a"));
        world.faults.add(Window {
            from: after(30),
            until: after(31),
            on: Some(Endpoint::Delete),
            what: fault,
        });
        let answer = ask(&mut world, "DELETE", &format!("/api/deployments/{id}"), after(30));
        assert_eq!(answer.conduct, Conduct::Reset);
        world.advance(after(32));
        assert_eq!(world.status(&id), Some(&ended));
    }
}

#[test]
fn random_weather_is_the_same_for_a_seed_and_about_as_foul_as_asked() {
    let (end, share) = (after(60 * 24 * 365), |plan: &FaultPlan| {
        let foul: u64 = plan.windows().iter().map(|w| w.until.since(w.from).as_secs()).sum();
        foul * 100 / (60 * 60 * 24 * 365)
    });
    let plan = FaultPlan::random(3, START, end, 20);
    assert_eq!(plan, FaultPlan::random(3, START, end, 20));
    assert_ne!(plan, FaultPlan::random(4, START, end, 20));
    assert!((14..=26).contains(&share(&plan)), "{} %", share(&plan));
    assert!(plan.end().unwrap() < end && plan.windows().iter().all(|w| w.from >= START));
    let kinds: BTreeSet<String> =
        plan.windows().iter().map(|w| format!("{:?}", std::mem::discriminant(&w.what))).collect();
    assert_eq!(kinds.len(), 20, "every kind but a lost answer and a skewed date");
}

/// A month polled every `step` minutes: all bytes that it answered at the shared hours, and its end.
fn month_trace(seed: u64, step: usize) -> (Vec<Vec<u8>>, World) {
    let mut world = without_faults(World::month(seed, START));
    let mut trace = Vec::new();
    for minute in (0..=31 * 24 * 60).step_by(step) {
        world.advance(after(minute));
        if minute % (12 * 60) == 0 {
            trace.push(ask(&mut world, "GET", "/api/deployments", after(minute)).body);
            trace.push(ask(&mut world, "GET", "/api/balance", after(minute)).body);
        }
    }
    (trace, world)
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_one_jump_or_in_many() {
    let (coarse, a) = month_trace(11, 12 * 60);
    let (fine, b) = month_trace(11, 1);
    assert_eq!(coarse, fine);
    assert_eq!(a.passages(), b.passages());
    assert_ne!(coarse, month_trace(12, 12 * 60).0, "another seed is another month");
    let mut jump = without_faults(World::month(11, START));
    assert_eq!(&ask(&mut jump, "GET", "/api/balance", after(31 * 24 * 60)).body, coarse.last().unwrap());
}

#[test]
fn a_month_has_everything_that_goes_wrong_in_a_lab() {
    let mut seen = BTreeSet::new();
    for seed in 0..8 {
        let (_, world) = month_trace(seed, 12 * 60);
        for team in world.teams() {
            assert_conserved(&world, &team);
            if world.balances(&team).iter().any(|(_, usd)| *usd < Usd::from_cents(1_000)) {
                seen.insert("low".to_owned());
            }
        }
        let statuses = world.passages().iter().map(|p| p.to.to_string());
        seen.extend(statuses);
        seen.extend(world.emptied().iter().map(|_| "emptied".to_owned()));
        let (live, ended): (Vec<_>, Vec<_>) = world.deployments().partition(|(_, s)| !s.is_ended());
        assert!(live.len() <= 10 && ended.len() > 60, "{} live, {} ended", live.len(), ended.len());
    }
    for what in
        ["running", "failed", "terminated", "terminated-provider", "stopped", "maintenance", "low", "emptied"]
    {
        assert!(seen.contains(what), "no {what} in eight months: {seen:?}");
    }
}

#[test]
fn the_standard_fleet_is_as_large_as_it_says() {
    let mut world = without_faults(World::fleet(5, 500, START));
    let body = ask(&mut world, "GET", "/api/deployments?status=active", START).body;
    let list: Vec<Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!((list.len(), world.teams().len()), (500, 10));
    let bytes = body.len() / 500;
    assert!((850..=910).contains(&bytes), "{bytes} bytes each");
    let mut volumes = 0;
    for team in world.teams() {
        volumes += get(&mut world, &format!("/api/volumes?teamId={team}"), START)["total"].as_u64().unwrap();
    }
    assert_eq!(volumes, 100);
    assert!(list.iter().all(|d| d["status"] == json!("running") && d["totalCost"].as_f64().unwrap() > 0.0));
    let year = after(366 * 24 * 60);
    assert!(world.teams().iter().all(|t| world.empties_at(t).unwrap() > year), "nobody runs dry");
}

#[test]
fn the_demo_tells_its_story_in_two_minutes() {
    let mut world = script::demo(START);
    let real = |at: Time| at.since(START).as_secs() / u64::from(spheron_watch::sim::DEMO_SPEED);
    let named = |world: &World, name: &str| {
        world.deployments().map(|(id, _)| id.clone()).find(|id| world.name(id) == Some(name)).unwrap()
    };
    let (ana, train) = (named(&world, "dev-ana"), named(&world, "train-llama-70b"));
    let forgotten = world.created_at(&ana).unwrap().plus(Duration::from_secs(24 * 3_600 + 60));
    world.advance(after(600));
    let reclaimed =
        world.passages().iter().find(|p| p.id == train && p.to == Status::TerminatedProvider).unwrap().at;
    let evaluation = world.teams().pop().unwrap();
    let low = world.balances(&evaluation).iter().find(|(_, usd)| *usd < Usd::from_cents(1_000)).unwrap().0;
    let resolved =
        world.balances(&evaluation).iter().find(|(t, left)| *t > low && *left > usd(30)).unwrap().0;
    let times = [forgotten, reclaimed, low, resolved].map(real);
    assert_eq!(times, [6, 24, 78, 93], "real seconds after the start");
    assert_eq!(world.status(&ana), Some(&Status::Running));
    for team in world.teams() {
        let others_low = world.balances(&team).iter().any(|(_, usd)| *usd < Usd::from_cents(1_000));
        assert_eq!(others_low, team == evaluation, "one balance runs out, not three");
        assert_conserved(&world, &team);
    }
    world.advance(after(14 * 24 * 60));
    assert!(world.emptied().is_empty(), "a long demo goes on");
}

fn usd(dollars: i64) -> Usd {
    Usd::from_cents(dollars * 100)
}

/// What was paid in, less what was deducted, is the balance, exactly; and it is never less than what is really left.
fn assert_conserved(world: &World, team: &TeamId) {
    let paid: Usd = world.paid_in(team).iter().map(|(_, usd)| *usd).sum();
    assert_eq!(paid.saturating_sub(world.deducted(team)), world.balance(team));
    assert!(world.balance(team) >= Usd::ZERO, "never overdrawn");
    let truth = world.true_balance_at(team, world.now());
    let dust = Usd::from_nanos(1_000_000);
    assert!(truth.saturating_add(dust) >= Usd::ZERO, "nothing runs on credit: {truth}");
    assert!(world.balance(team).saturating_add(dust) >= truth, "nothing is deducted before it is used");
}

fn any_event(ids: Vec<DeploymentId>, team: TeamId) -> impl Strategy<Value = Event> {
    let id = prop::sample::select(ids);
    let statuses = prop::sample::select(vec!["running", "hibernating", "failed", "terminated"]);
    prop_oneof![
        id.clone().prop_map(Event::Reclaim),
        id.clone().prop_map(Event::ProviderStop),
        id.clone().prop_map(Event::UserTerminate),
        id.clone().prop_map(Event::Stop),
        (id.clone(), statuses).prop_map(|(id, s)| Event::SetStatus(id, s.to_owned())),
        (id.clone(), 1i64..100_000_000_000).prop_map(|(id, n)| Event::ChangeRate(id, Usd::from_nanos(n))),
        (1i64..50_000_000_000).prop_map({
            let team = team.clone();
            move |n| Event::TopUp(team.clone(), Usd::from_nanos(n))
        }),
        (id, 1i64..9_999_999_999).prop_map(move |(id, n)| Event::Deploy(Box::new(Spec {
            id: Some(id),
            rate: Usd::from_nanos(n),
            ..Spec::new(&team, "again")
        }))),
    ]
}

/// A lab with six deployments and a volume, before anything is scripted; the same at every call.
fn scripted() -> (World, TeamId, Vec<DeploymentId>) {
    let (mut world, team) = lab();
    let spec = |i: i64| {
        let kind = if i % 2 == 0 { "SPOT" } else { "DEDICATED" };
        Spec::new(&team, "x").kind(kind).rate(Usd::from_nanos(i * 1_234_567_891))
    };
    let ids = (1..=6).map(|i| world.deploy(START.plus(Duration::from_millis(777)), spec(i))).collect();
    world.add_volume(START, VolumeSpec::new(&team, "v", 333));
    (world, team, ids)
}

fn timed_events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let (_, team, ids) = scripted();
    prop::collection::vec((0u64..48 * 3_600_000, any_event(ids, team)), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_script_loses_a_nano_dollar_or_depends_on_who_looks(events in timed_events(), steps in 1u64..200) {
        let (mut jump, team, _) = scripted();
        let (mut walk, _, _) = scripted();
        for (ms, event) in events {
            let at = START.plus(Duration::from_millis(ms));
            jump.at(at, event.clone());
            walk.at(at, event);
        }
        let length_ms = 50 * 3_600_000;
        for step in 1..=steps {
            walk.advance(START.plus(Duration::from_millis(length_ms * step / steps)));
            assert_conserved(&walk, &team);
        }
        jump.advance(START.plus(Duration::from_millis(length_ms)));
        assert_conserved(&jump, &team);
        prop_assert_eq!(jump.balances(&team), walk.balances(&team));
        prop_assert_eq!(jump.passages(), walk.passages());
        let end = jump.now();
        let lists = [&mut jump, &mut walk].map(|world| ask(world, "GET", "/api/deployments", end).body);
        prop_assert_eq!(&lists[0], &lists[1]);
    }
}

/// The account behind a real socket.
async fn served(world: World) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let world = Arc::new(Mutex::new(world));
    let server = tokio::spawn(serve(world, Clock::system(), listener, stop.clone()));
    (address, stop, server)
}

/// A world that lives now, with one fault for good.
fn present(fault: Option<Fault>) -> World {
    let now = Clock::system().now();
    let mut world = World::new(7, now);
    let team = world.add_team("Lab", "owner", usd(100));
    world.deploy(now, Spec::new(&team, "a"));
    if let Some(what) = fault {
        world.faults.add(Window { from: now, until: now.plus(Duration::from_secs(9_999)), on: None, what });
    }
    world
}

/// Everything that the server sends to one call on a connection of its own; an error is how it ended.
async fn raw(address: std::net::SocketAddr) -> (String, Option<std::io::ErrorKind>) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let call = format!(
        "GET /api/deployments HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(call.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).await.err().map(|e| e.kind());
    (String::from_utf8_lossy(&bytes).into_owned(), end)
}

fn promised(head: &str) -> usize {
    let line = head.lines().find(|l| l.starts_with("content-length: ")).expect("a content-length");
    line.trim_start_matches("content-length: ").parse().unwrap()
}

#[tokio::test]
async fn the_server_speaks_http_and_breaks_it_on_request() {
    let (address, stop, server) = served(present(None)).await;
    let (text, end) = raw(address).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK") && end.is_none(), "{head}");
    assert_eq!(head.matches("date: ").count(), 1, "the world's own date, not the server's");
    assert_eq!(serde_json::from_str::<Vec<Value>>(body).unwrap().len(), 1);
    assert_eq!(promised(head), body.len());
    stop.cancel();
    server.await.unwrap();

    let (address, _stop, _server) = served(present(Some(Fault::Reset))).await;
    assert_eq!(raw(address).await.0, "", "not a byte");
    let (address, _stop, _server) = served(present(Some(Fault::Cut))).await;
    let (text, _) = raw(address).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(promised(head) / 2, body.len(), "half of what was promised");
    let drip = Fault::Drip { bytes: 200, every: Duration::from_millis(1) };
    let (address, _stop, _server) = served(present(Some(drip))).await;
    let (text, _) = raw(address).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(promised(head), body.len(), "slow, but whole");
}

#[tokio::test]
async fn stopping_the_server_ends_a_connection_that_hangs() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let world = Arc::new(Mutex::new(present(Some(Fault::Hang))));
    let server = tokio::spawn(serve(Arc::clone(&world), Clock::system(), listener, stop.clone()));
    let caller = tokio::spawn(raw(address));
    while world.lock().unwrap().call_count("GET", "/api/deployments") == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!caller.is_finished(), "nothing comes");
    stop.cancel();
    server.await.unwrap();
    assert_eq!(caller.await.unwrap().0, "");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
