//! The simulated market: which GPUs are on offer, where and at what price.
//!
//! It must never change by itself: prices are constants, so that tests and the demo can be read.

use serde::Serialize;

use super::json::{self, Money};
use crate::model::Usd;

/// A GPU model; dollars are cents per GPU and hour, DEDICATED. SPOT costs half.
pub struct Gpu {
    pub kind: &'static str,
    pub label: &'static str,
    pub memory_gb: u32,
    pub cents: i64,
    pub popularity: u32,
    /// Also in eights, and as a CLUSTER of bare metal.
    pub big: bool,
}

const fn gpu(
    kind: &'static str,
    label: &'static str,
    memory_gb: u32,
    cents: i64,
    popularity: u32,
    big: bool,
) -> Gpu {
    Gpu { kind, label, memory_gb, cents, popularity, big }
}

/// More than a page of the offers list holds.
pub const GPUS: [Gpu; 14] = [
    gpu("rtx-4090", "RTX 4090", 24, 50, 85, false),
    gpu("h100", "H100", 80, 269, 84, true),
    gpu("a100", "A100", 80, 115, 80, true),
    gpu("b200", "B200", 180, 499, 78, true),
    gpu("h200", "H200", 141, 329, 75, true),
    gpu("rtx-5090", "RTX 5090", 32, 76, 70, false),
    gpu("l40s", "L40S", 48, 89, 66, false),
    gpu("a6000", "RTX A6000", 48, 55, 60, false),
    gpu("rtx-6000-ada", "RTX 6000 Ada", 48, 79, 51, false),
    gpu("rtx-pro-6000", "RTX PRO 6000", 96, 165, 48, false),
    gpu("l4", "L4", 24, 39, 40, false),
    gpu("a4000", "RTX A4000", 16, 17, 33, false),
    gpu("v100", "V100", 16, 24, 21, false),
    gpu("gh200", "GH200", 96, 198, 15, false),
];

pub const PROVIDERS: [&str; 5] = ["data-crunch", "massed-compute", "sesterce", "spheron-ai", "voltage-park"];

/// What so many of a kind cost per hour, in the instance type's way.
pub fn price(gpu: &Gpu, count: u32, instance_type: &str) -> Usd {
    let cents = gpu.cents * i64::from(count);
    Usd::from_nanos(if instance_type == "SPOT" { cents * 5_000_000 } else { cents * 10_000_000 })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupJson {
    gpu_type: &'static str,
    gpu_model: &'static str,
    base_gpu_type: &'static str,
    interconnect_variants: [&'static str; 1],
    has_multiple_variants: bool,
    display_name: &'static str,
    popularity: u32,
    total_available: usize,
    lowest_price: Money,
    highest_price: Money,
    average_price: Money,
    providers: Vec<&'static str>,
    offers: Vec<OfferJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfferJson {
    provider: &'static str,
    offer_id: String,
    name: String,
    description: String,
    vcpus: u32,
    memory: u32,
    storage: u32,
    gpu_count: u32,
    price: Money,
    #[serde(rename = "spot_price", skip_serializing_if = "Option::is_none")]
    spot_price: Option<Money>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    discount: Option<DiscountJson>,
    available: bool,
    clusters: [&'static str; 2],
    region: &'static str,
    #[serde(rename = "gpu_memory")]
    gpu_memory: u32,
    #[serde(rename = "os_options")]
    os_options: [&'static str; 2],
    maintenance: bool,
    interconnect_type: &'static str,
    interconnect_description: &'static str,
    instance_type: &'static str,
    supports_cloud_init: bool,
    extras: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

/// Only those who show a key see them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiscountJson {
    original_price: Money,
    discounted_price: Money,
    discount_percentage: u32,
    has_discount: bool,
}

/// The groups that match, most popular first, each as JSON.
pub(super) fn groups(authenticated: bool, search: &str, instance_type: &str) -> Vec<String> {
    let wanted = search.to_ascii_lowercase();
    GPUS.iter()
        .filter(|g| g.kind.contains(&wanted) || g.label.to_ascii_lowercase().contains(&wanted))
        .map(|g| group(g, authenticated, instance_type))
        .filter(|g| !g.offers.is_empty())
        .map(|g| json::text(&g))
        .collect()
}

fn group(gpu: &'static Gpu, authenticated: bool, instance_type: &str) -> GroupJson {
    let mut offers = vec![
        offer(gpu, "spheron-ai", "us-east-1", 1, "DEDICATED", authenticated),
        offer(gpu, "data-crunch", "eu-west-1", 1, "SPOT", authenticated),
    ];
    if gpu.big {
        offers.push(offer(gpu, "massed-compute", "us-central-2", 8, "DEDICATED", authenticated));
        offers.push(offer(gpu, "sesterce", "eu-west-1", 8, "SPOT", authenticated));
        offers.push(offer(gpu, "voltage-park", "dalas-united states", 8, "CLUSTER", authenticated));
    }
    offers.retain(|o| instance_type.is_empty() || o.instance_type.eq_ignore_ascii_case(instance_type));
    let prices: Vec<Usd> = offers.iter().map(|o| o.price.0).collect();
    let sum: Usd = prices.iter().copied().sum();
    GroupJson {
        gpu_type: gpu.kind,
        gpu_model: gpu.label,
        base_gpu_type: gpu.kind,
        interconnect_variants: [interconnect(gpu)],
        has_multiple_variants: false,
        display_name: gpu.label,
        popularity: gpu.popularity,
        total_available: offers.len(),
        lowest_price: Money(prices.iter().copied().min().unwrap_or_default()),
        highest_price: Money(prices.iter().copied().max().unwrap_or_default()),
        average_price: Money(Usd::from_nanos(sum.nanos() / i64::try_from(prices.len().max(1)).unwrap_or(1))),
        providers: offers.iter().map(|o| o.provider).collect(),
        offers,
    }
}

fn offer(
    gpu: &'static Gpu,
    provider: &'static str,
    region: &'static str,
    count: u32,
    instance_type: &'static str,
    authenticated: bool,
) -> OfferJson {
    let list = price(gpu, count, instance_type);
    let (spot, cluster) = (instance_type == "SPOT", instance_type == "CLUSTER");
    // One model carries a team discount, so that both shapes occur.
    let percent: u32 = if gpu.kind == "l40s" { 10 } else { 0 };
    let discounted = Usd::from_nanos(list.nanos() / 100 * i64::from(100 - percent));
    let extras = if cluster {
        serde_json::json!({ "deployment_type": "cluster", "networking_type": "ethernet",
            "kubernetes_addon": { "available": true, "total_cost_per_hour": 0.384 } })
    } else {
        serde_json::json!({ "deployment_type": "vm", "networking_type": "standard" })
    };
    OfferJson {
        provider,
        offer_id: format!("{}-{provider}-{count}-{}", gpu.kind, instance_type.to_ascii_lowercase()),
        name: if spot { format!("{} Spot", gpu.label) } else { gpu.label.to_owned() },
        description: format!("{count}x {}, {} GB each", gpu.label, gpu.memory_gb),
        vcpus: count * 8,
        memory: count * 32,
        storage: count * 100,
        gpu_count: count,
        price: Money(list),
        spot_price: spot.then_some(Money(list)),
        discount: authenticated.then_some(DiscountJson {
            original_price: Money(list),
            discounted_price: Money(discounted),
            discount_percentage: percent,
            has_discount: percent > 0,
        }),
        available: true,
        clusters: [region, "us-west-2"],
        region,
        gpu_memory: gpu.memory_gb,
        os_options: ["ubuntu-20.04", "ubuntu-22.04"],
        maintenance: false,
        interconnect_type: interconnect(gpu),
        interconnect_description: if gpu.big {
            "NVLink high-speed GPU interconnect"
        } else {
            "PCIe interface"
        },
        instance_type,
        supports_cloud_init: true,
        extras,
        note: spot
            .then_some("For Spot instances: price = spot_price (discounted rate with possible interruption)"),
    }
}

fn interconnect(gpu: &Gpu) -> &'static str {
    if gpu.big { "NVLink" } else { "PCIe" }
}
