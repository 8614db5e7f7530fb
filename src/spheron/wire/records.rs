//! The records themselves: what of a deployment, volume, balance and offer is read, and how strictly.
//!
//! It must never name a field that holds a secret: what is not named here is skipped unread, kubeconfigs and SSH commands first.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use jiff::{civil::DateTime, tz::TimeZone};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{Loose, RECORD_BYTES_MAX, Record, Records, cap};
use crate::{
    model::{
        Access, Balance, Deployment, DeploymentId, InstanceType, Offer, Status, TeamId, Time, Unreadable,
        Usd, Volume, VolumeId, VolumeStatus,
    },
    spheron::headers::plain_text,
};

/// Ids are never cut: two long ones could become one.
const ID_CHARS_MAX: usize = 200;

/// How a field is told to be bad, once a record could not be read. `read` is what decides; this only finds the words.
type Check = (&'static str, Kind);

#[derive(Clone, Copy)]
enum Kind {
    Money,
    Text,
    Time,
}

/// A text that must be one.
#[derive(Deserialize)]
#[serde(transparent)]
struct Str<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(transparent)]
struct Dollars(#[serde(deserialize_with = "Usd::deserialize_dollars")] Usd);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDeployment<'a> {
    #[serde(borrow, default)]
    id: Loose<'a>,
    #[serde(borrow, default, rename = "_id")]
    mongo_id: Loose<'a>,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Option<Str<'a>>,
    #[serde(borrow)]
    team_id: Cow<'a, str>,
    #[serde(borrow, default)]
    gpu_type: Loose<'a>,
    #[serde(borrow, default)]
    gpu_count: Loose<'a>,
    #[serde(borrow, default)]
    provider_id: Loose<'a>,
    #[serde(borrow, default)]
    region: Loose<'a>,
    #[serde(borrow, default)]
    instance_type: Option<Str<'a>>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    hourly_rate: Dollars,
    total_cost: Dollars,
    #[serde(borrow, default)]
    started_at: Loose<'a>,
    #[serde(borrow, default)]
    stopped_at: Loose<'a>,
    #[serde(borrow, default)]
    ip_address: Loose<'a>,
    #[serde(borrow, default)]
    user: Loose<'a>,
    #[serde(borrow, default)]
    ssh_port: Loose<'a>,
    /// Holds a kubeconfig: only whether it is there (FAULTS 24).
    #[serde(default)]
    kubernetes_addon: Option<IgnoredAny>,
}

impl Record for Deployment {
    const WHAT: &'static str = "deployment";
    const LISTS: &'static [&'static str] = &["deployments", "data"];
    type Key = DeploymentId;

    fn read(json: &str) -> Result<Self, Unreadable> {
        const CHECKS: &[Check] = &[
            ("createdAt", Kind::Time),
            ("teamId", Kind::Text),
            ("status", Kind::Text),
            ("hourlyRate", Kind::Money),
            ("totalCost", Kind::Money),
        ];
        read(json, |wire: WireDeployment<'_>| {
            Some(Self {
                id: DeploymentId::new(id(&wire.id, &wire.mongo_id)?),
                created_at: time(&wire.created_at)?,
                name: cap(wire.name.as_ref().map_or("", |name| &name.0)),
                team: TeamId::new(id_text(&wire.team_id)?),
                gpu_type: text(&wire.gpu_type),
                gpu_count: count(&wire.gpu_count),
                provider: text(&wire.provider_id),
                region: text(&wire.region),
                instance_type: InstanceType::new(&cap(wire
                    .instance_type
                    .as_ref()
                    .map_or("", |kind| &kind.0))),
                status: status(&wire.status)?,
                hourly_rate: wire.hourly_rate.0,
                total_cost: wire.total_cost.0,
                started_at: wire.started_at.text().and_then(time),
                stopped_at: wire.stopped_at.text().and_then(time),
                kubernetes: wire.kubernetes_addon.is_some(),
                access: Access {
                    ip: access_text(&wire.ip_address),
                    user: access_text(&wire.user),
                    ssh_port: match &wire.ssh_port {
                        Loose::Number(number) => Some(number.to_string().into()),
                        Loose::Text(_) | Loose::Bool(_) | Loose::Nothing => access_text(&wire.ssh_port),
                    },
                },
            })
        })
        .ok_or_else(|| explain(json, Self::WHAT, &["id", "_id"], CHECKS))
    }

    fn key(&self) -> Option<&DeploymentId> {
        Some(&self.id)
    }

    fn team(&self) -> Option<&TeamId> {
        Some(&self.team)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVolume<'a> {
    #[serde(borrow, default)]
    id: Loose<'a>,
    #[serde(borrow, default, rename = "_id")]
    mongo_id: Loose<'a>,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Option<Str<'a>>,
    #[serde(borrow)]
    team_id: Cow<'a, str>,
    #[serde(borrow, default)]
    provider_id: Loose<'a>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    size_in_gb: Loose<'a>,
    #[serde(borrow, default)]
    used_capacity_bytes: Loose<'a>,
    hourly_rate: Dollars,
    #[serde(borrow, default)]
    attached_to_deployment_ids: Option<Vec<Loose<'a>>>,
    #[serde(borrow, default)]
    last_detached_at: Loose<'a>,
}

/// The API counts sizes in GB and usage in bytes. Were its GB a GiB, a volume would look a little fuller than it is.
const BYTES_PER_GB: u64 = 1_000_000_000;

impl Record for Volume {
    const WHAT: &'static str = "volume";
    const LISTS: &'static [&'static str] = &["volumes", "data"];
    type Key = VolumeId;

    fn read(json: &str) -> Result<Self, Unreadable> {
        const CHECKS: &[Check] = &[
            ("createdAt", Kind::Time),
            ("teamId", Kind::Text),
            ("status", Kind::Text),
            ("hourlyRate", Kind::Money),
        ];
        read(json, |wire: WireVolume<'_>| {
            let attached = wire.attached_to_deployment_ids.unwrap_or_default();
            Some(Self {
                id: VolumeId::new(id(&wire.id, &wire.mongo_id)?),
                created_at: time(&wire.created_at)?,
                name: cap(wire.name.as_ref().map_or("", |name| &name.0)),
                team: TeamId::new(id_text(&wire.team_id)?),
                provider: text(&wire.provider_id),
                status: volume_status(&wire.status)?,
                size_bytes: wire.size_in_gb.whole().unwrap_or(0).saturating_mul(BYTES_PER_GB),
                used_bytes: wire.used_capacity_bytes.whole().unwrap_or(0),
                hourly_rate: wire.hourly_rate.0,
                attached_to: attached
                    .iter()
                    .filter_map(|id| id_text(id.text()?))
                    .map(DeploymentId::new)
                    .collect(),
                last_detached_at: wire.last_detached_at.text().and_then(time),
            })
        })
        .ok_or_else(|| explain(json, Self::WHAT, &["id", "_id"], CHECKS))
    }

    fn key(&self) -> Option<&VolumeId> {
        Some(&self.id)
    }

    fn team(&self) -> Option<&TeamId> {
        Some(&self.team)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBalance<'a> {
    #[serde(borrow)]
    team_id: Cow<'a, str>,
    #[serde(borrow, default)]
    team_name: Loose<'a>,
    #[serde(borrow, default)]
    role: Loose<'a>,
    balance: Dollars,
}

impl Record for Balance {
    const WHAT: &'static str = "team balance";
    const LISTS: &'static [&'static str] = &["teams"];
    type Key = TeamId;

    fn read(json: &str) -> Result<Self, Unreadable> {
        read(json, |wire: WireBalance<'_>| {
            Some(Self {
                team: TeamId::new(id_text(&wire.team_id)?),
                name: text(&wire.team_name),
                role: text(&wire.role),
                balance: wire.balance.0,
            })
        })
        .ok_or_else(|| explain(json, Self::WHAT, &["teamId"], &[("balance", Kind::Money)]))
    }

    fn key(&self) -> Option<&TeamId> {
        Some(&self.team)
    }

    fn team(&self) -> Option<&TeamId> {
        None
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireOffer<'a> {
    #[serde(borrow)]
    offer_id: Cow<'a, str>,
    #[serde(borrow, default)]
    provider: Loose<'a>,
    #[serde(borrow, default)]
    gpu_count: Loose<'a>,
    #[serde(borrow, default)]
    instance_type: Loose<'a>,
    #[serde(borrow, default)]
    region: Loose<'a>,
    #[serde(borrow, default)]
    available: Loose<'a>,
    price: Dollars,
    #[serde(borrow, default)]
    has_discount: Loose<'a>,
    /// Looked at only where there is a discount: without one it may be null.
    #[serde(borrow, default)]
    discounted_price: Option<&'a RawValue>,
}

impl Record for Offer {
    const WHAT: &'static str = "offer";
    const LISTS: &'static [&'static str] = &[];
    type Key = Arc<str>;

    fn read(json: &str) -> Result<Self, Unreadable> {
        read(json, |wire: WireOffer<'_>| {
            let price = if wire.has_discount.is_true() {
                serde_json::from_str::<Dollars>(wire.discounted_price?.get()).ok()?.0
            } else {
                wire.price.0
            };
            Some(Self {
                id: id_text(&wire.offer_id)?.into(),
                provider: text(&wire.provider),
                gpu_type: "".into(),
                gpu_count: count(&wire.gpu_count),
                instance_type: InstanceType::new(&text(&wire.instance_type)),
                region: text(&wire.region),
                price,
                available: wire.available.is_true(),
            })
        })
        .ok_or_else(|| {
            explain(
                json,
                Self::WHAT,
                &["offerId"],
                &[("price", Kind::Money), ("discountedPrice", Kind::Money)],
            )
        })
    }

    /// One offer may be listed once per region.
    fn key(&self) -> Option<&Arc<str>> {
        None
    }

    fn team(&self) -> Option<&TeamId> {
        None
    }
}

/// `GET /api/gpu-offers` lists GPU types, each with its offers.
#[derive(Debug)]
pub struct OfferGroup(pub Records<Offer>);

impl Record for OfferGroup {
    const WHAT: &'static str = "GPU type";
    const LISTS: &'static [&'static str] = &["data"];
    type Key = Arc<str>;

    fn read(json: &str) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(borrow)]
            gpu_type: Cow<'a, str>,
            #[serde(bound(deserialize = "'de: 'a"))]
            offers: Records<Offer>,
        }
        let wire: Option<Wire<'_>> = serde_json::from_str(json).ok();
        let mut wire = wire
            .ok_or_else(|| Unreadable { id: None, why: "a GPU type lacks its name or its offers".into() })?;
        let gpu_type = cap(&wire.gpu_type);
        wire.offers.items.iter_mut().for_each(|offer| offer.gpu_type = gpu_type.clone());
        Ok(Self(wire.offers))
    }

    fn key(&self) -> Option<&Arc<str>> {
        None
    }

    fn team(&self) -> Option<&TeamId> {
        None
    }
}

fn read<'a, W: Deserialize<'a>, T>(json: &'a str, build: impl FnOnce(W) -> Option<T>) -> Option<T> {
    if json.len() > RECORD_BYTES_MAX || !json.starts_with('{') {
        return None;
    }
    serde_json::from_str(json).ok().and_then(build)
}

/// Finds the words for a record that `read` refused, and its id where there is one.
fn explain(json: &str, what: &str, ids: &[&str], checks: &[Check]) -> Unreadable {
    let bare = |why: String| Unreadable { id: None, why: why.into() };
    if json.len() > RECORD_BYTES_MAX {
        return bare(format!("a {what} of {} bytes is not believable", json.len()));
    }
    let Ok(fields) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(json) else {
        return bare(format!("a {what} is not an object"));
    };
    let field = |name: &str| fields.get(name).map(|raw| raw.get());
    let found = ids
        .iter()
        .find_map(|name| id_text(&serde_json::from_str::<Cow<'_, str>>(field(name)?).ok()?).map(cap));
    let Some(id) = found else {
        return bare(format!("a {what} lacks an id, or has one of more than {ID_CHARS_MAX} characters"));
    };
    let bad = checks.iter().find_map(|(name, kind)| {
        let good = field(name).is_some_and(|json| kind.fits(json));
        // Offers without a discount need no discounted price.
        let spared = *name == "discountedPrice" && field("hasDiscount") != Some("true");
        (!good && !spared).then(|| format!("{name} is {}", kind.complaint()))
    });
    let bad = bad.unwrap_or_else(|| "a field stands twice or has an unexpected type".to_owned());
    Unreadable { why: format!("{what} {}: {bad}", plain_text(&id, ID_CHARS_MAX)).into(), id: Some(id) }
}

impl Kind {
    fn fits(self, json: &str) -> bool {
        let text = || serde_json::from_str::<Cow<'_, str>>(json).ok();
        match self {
            Self::Money => serde_json::from_str::<Dollars>(json).is_ok(),
            Self::Text => text().is_some_and(|text| id_text(&text).is_some()),
            Self::Time => text().is_some_and(|text| time(&text).is_some()),
        }
    }

    fn complaint(self) -> &'static str {
        match self {
            Self::Money => "missing or no believable amount of money",
            Self::Text => "missing, empty, too long or no text",
            Self::Time => "missing or no time",
        }
    }
}

fn id<'l>(id: &'l Loose<'_>, mongo_id: &'l Loose<'_>) -> Option<&'l str> {
    id.text().or_else(|| mongo_id.text()).and_then(id_text)
}

fn id_text(text: &str) -> Option<&str> {
    let fits = text.len() <= ID_CHARS_MAX || text.chars().nth(ID_CHARS_MAX).is_none();
    (fits && !text.is_empty()).then_some(text)
}

/// RFC 3339 as documented; a time without zone counts as UTC, which all others are in.
fn time(text: &str) -> Option<Time> {
    Time::parse_rfc3339(text).or_else(|| {
        let zoned = text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
        Some(Time::from_millis(zoned.timestamp().as_millisecond()))
    })
}

/// What is longer is no address, user or port, and is not cut into one.
const ACCESS_CHARS_MAX: usize = 64;

/// As it came, control characters and all: whoever uses it must judge it.
fn access_text(value: &Loose<'_>) -> Option<Arc<str>> {
    let text = value.text().filter(|text| !text.is_empty())?;
    let fits = text.chars().count() <= ACCESS_CHARS_MAX;
    Some(if fits { text.into() } else { "(too long)".into() })
}

fn text(field: &Loose<'_>) -> Arc<str> {
    cap(field.text().unwrap_or_default())
}

fn count(field: &Loose<'_>) -> u32 {
    field.whole().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

fn status(text: &str) -> Option<Status> {
    id_text(text).map(|text| Status::from(Arc::<str>::from(text)))
}

fn volume_status(text: &str) -> Option<VolumeStatus> {
    id_text(text).map(|text| VolumeStatus::from(Arc::<str>::from(text)))
}
