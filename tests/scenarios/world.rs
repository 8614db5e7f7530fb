//! The account that a script describes, line by line, and what each feed shows of it.
//!
//! It must never show what the API would not: the list of deployments lacks the ended, only the inventory has them.

use std::{collections::BTreeMap, sync::Arc};

use spheron_watch::{
    model::{
        Balance, Deployment, DeploymentId, Facts, Failure, Feed, InstanceType, Listing, Observation, Offer,
        Scope, Status, TeamId, Time, Unreadable, Usd, Volume, VolumeId, VolumeStatus,
    },
    schedule::parse_length,
};

/// A Monday, 08:00 UTC.
pub const START: Time = Time::from_secs(1_767_600_000);

#[derive(Default)]
pub struct World {
    teams: Rows<Balance>,
    deployments: Rows<Deployment>,
    volumes: Rows<Volume>,
    offers: Rows<Offer>,
}

struct Rows<T>(BTreeMap<String, Row<T>>);

struct Row<T> {
    value: T,
    readable: bool,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone> Rows<T> {
    /// `gone`, `unreadable`, or fields: a later line changes what an earlier one made.
    fn enter<'a>(&mut self, id: &str, words: &[&'a str], new: T, set: impl FnOnce(&mut T, &mut Fields<'a>)) {
        if words == ["gone"] {
            assert!(self.0.remove(id).is_some(), "{id} is not there");
            return;
        }
        let row = self.0.entry(id.to_owned()).or_insert(Row { value: new, readable: true });
        row.readable = words != ["unreadable"];
        if row.readable {
            let mut fields = Fields::of(words);
            set(&mut row.value, &mut fields);
            assert!(fields.0.is_empty(), "{id} has no such fields: {:?}", fields.0);
        }
    }

    fn list(&self, shown: impl Fn(&T) -> bool) -> Listing<T> {
        let shown: Vec<_> = self.0.iter().filter(|(_, row)| shown(&row.value)).collect();
        let bad = |id: &String| Unreadable { id: Some(id.as_str().into()), why: "a field is null".into() };
        Listing {
            items: shown.iter().filter(|(_, row)| row.readable).map(|(_, row)| row.value.clone()).collect(),
            unreadable: shown.iter().filter(|(_, row)| !row.readable).map(|(id, _)| bad(id)).collect(),
            suspect: None,
        }
    }
}

/// The `key=value` words of a line.
pub struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    pub fn of(words: &[&'a str]) -> Self {
        Self(words.iter().map(|word| word.split_once('=').expect("key=value")).collect())
    }

    pub fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key)
    }

    fn set<T>(&mut self, key: &str, field: &mut T, read: impl FnOnce(&'a str) -> T) {
        if let Some(text) = self.take(key) {
            *field = read(text);
        }
    }

    fn set_gpu(&mut self, count: &mut u32, gpu_type: &mut Arc<str>) {
        if let Some((n, of)) = self.take("gpu").map(|gpu| gpu.split_once('x').expect("as in 2xh100")) {
            (*count, *gpu_type) = (n.parse().unwrap(), of.into());
        }
    }
}

/// `now`, `10m` after the start, `-1h` before now.
pub fn time(text: &str, now: Time) -> Time {
    match text.strip_prefix('-') {
        _ if text == "now" => now,
        Some(before) => now.minus(parse_length(before).unwrap()),
        None => START.plus(parse_length(text).unwrap()),
    }
}

fn usd(text: &str) -> Usd {
    Usd::from_dollars(text.parse().unwrap()).unwrap()
}

fn gigabytes(text: &str) -> u64 {
    text.strip_suffix("GB").expect("as in 200GB").parse::<u64>().unwrap() * 1_000_000_000
}

impl World {
    pub fn team(&mut self, id: &str, words: &[&str]) {
        let new =
            Balance { team: TeamId::new(id), name: id.into(), role: "owner".into(), balance: Usd::ZERO };
        self.teams.enter(id, words, new, |team, f| {
            f.set("name", &mut team.name, Into::into);
            f.set("balance", &mut team.balance, usd);
        });
    }

    pub fn deployment(&mut self, id: &str, words: &[&str], now: Time) {
        let new = Deployment {
            id: DeploymentId::new(id),
            created_at: now,
            name: id.into(),
            team: TeamId::new("t1"),
            gpu_type: "h100".into(),
            gpu_count: 1,
            provider: "spheron-ai".into(),
            region: "us-east-1".into(),
            instance_type: InstanceType::new("DEDICATED"),
            status: Status::Running,
            hourly_rate: Usd::from_cents(200),
            total_cost: Usd::ZERO,
            started_at: None,
            stopped_at: None,
            kubernetes: false,
            access: Default::default(),
        };
        self.deployments.enter(id, words, new, |d, f| {
            f.set("name", &mut d.name, Into::into);
            f.set("team", &mut d.team, TeamId::new);
            f.set_gpu(&mut d.gpu_count, &mut d.gpu_type);
            f.set("type", &mut d.instance_type, InstanceType::new);
            f.set("provider", &mut d.provider, Into::into);
            f.set("region", &mut d.region, Into::into);
            f.set("status", &mut d.status, |text| Status::from(Arc::from(text)));
            f.set("rate", &mut d.hourly_rate, usd);
            f.set("cost", &mut d.total_cost, usd);
            f.set("created", &mut d.created_at, |text| time(text, now));
            f.set("started", &mut d.started_at, |text| Some(time(text, now)));
            f.set("stopped", &mut d.stopped_at, |text| Some(time(text, now)));
        });
    }

    pub fn volume(&mut self, id: &str, words: &[&str], now: Time) {
        let new = Volume {
            id: VolumeId::new(id),
            created_at: now,
            name: id.into(),
            team: TeamId::new("t1"),
            provider: "spheron-ai".into(),
            status: VolumeStatus::Available,
            size_bytes: 200_000_000_000,
            used_bytes: 0,
            hourly_rate: Usd::from_nanos(27_400_000),
            attached_to: Vec::new(),
            last_detached_at: None,
        };
        self.volumes.enter(id, words, new, |v, f| {
            f.set("name", &mut v.name, Into::into);
            f.set("team", &mut v.team, TeamId::new);
            f.set("provider", &mut v.provider, Into::into);
            f.set("status", &mut v.status, |text| VolumeStatus::from(Arc::from(text)));
            f.set("size", &mut v.size_bytes, gigabytes);
            f.set("used", &mut v.used_bytes, gigabytes);
            f.set("rate", &mut v.hourly_rate, usd);
            f.set("created", &mut v.created_at, |text| time(text, now));
            f.set("detached", &mut v.last_detached_at, |text| Some(time(text, now)));
            f.set("attached", &mut v.attached_to, |ids| {
                ids.split(',').filter(|id| *id != "none").map(DeploymentId::new).collect()
            });
        });
    }

    pub fn offer(&mut self, id: &str, words: &[&str]) {
        let new = Offer {
            id: id.into(),
            provider: "spheron-ai".into(),
            gpu_type: "h100".into(),
            gpu_count: 1,
            instance_type: InstanceType::new("DEDICATED"),
            region: "us-east-1".into(),
            price: Usd::ZERO,
            available: true,
        };
        self.offers.enter(id, words, new, |o, f| {
            f.set("provider", &mut o.provider, Into::into);
            f.set_gpu(&mut o.gpu_count, &mut o.gpu_type);
            f.set("type", &mut o.instance_type, InstanceType::new);
            f.set("region", &mut o.region, Into::into);
            f.set("price", &mut o.price, usd);
            f.set("available", &mut o.available, |text| text == "yes");
        });
    }

    /// What a poll sees now; `vanished` are the deployments whose own GET is due.
    pub fn poll(
        &self,
        feed: Feed,
        failure: Option<&Failure>,
        vanished: &[DeploymentId],
        at: Time,
    ) -> Observation {
        let answer = |facts: Facts| failure.map_or(Ok(facts), |failure| Err(failure.clone()));
        let teams = || self.teams.0.keys().map(|id| TeamId::new(id.as_str()));
        let scopes = match feed {
            Feed::Balance => vec![(Scope::Unscoped, answer(Facts::Balances(self.teams.list(|_| true))))],
            Feed::Deployments | Feed::Inventory => {
                let listed = |team: &TeamId, d: &Deployment| {
                    d.team == *team && (feed == Feed::Inventory || !d.status.is_ended())
                };
                let list = |team: &TeamId| Facts::Deployments(self.deployments.list(|d| listed(team, d)));
                teams().map(|team| (Scope::Team(team.clone()), answer(list(&team)))).collect()
            }
            Feed::Volumes => {
                let list = |team: &TeamId| Facts::Volumes(self.volumes.list(|v| v.team == *team));
                teams().map(|team| (Scope::Team(team.clone()), answer(list(&team)))).collect()
            }
            Feed::Offers => vec![(Scope::Unscoped, answer(Facts::Offers(self.offers.list(|_| true))))],
            Feed::Detail => {
                let found = |id: &DeploymentId| self.deployments.0.get(id.as_str());
                let facts = |id| Facts::Deployment(found(id).map(|row| Box::new(row.value.clone())));
                vanished.iter().map(|id| (Scope::One(id.clone()), answer(facts(id)))).collect()
            }
        };
        Observation { feed, at, scopes, skew_ms: None }
    }
}
