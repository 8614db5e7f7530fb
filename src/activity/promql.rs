//! An instant query to the user's own Prometheus, one for each deployment.
//!
//! It must never take an empty result for zero.

use serde::Deserialize;

use super::{Reach, address, http::Http};
use crate::model::{Deployment, Placeholder, Query};

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Scalar((f64, String)),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    value: Option<(f64, String)>,
}

pub(super) async fn ask(
    http: &Http,
    reach: Reach,
    url: &str,
    query: &Query,
    deployment: &Deployment,
) -> Result<Vec<f64>, String> {
    let query = query.fill(|what| match what {
        Placeholder::Id => Ok(deployment.id.to_string()),
        Placeholder::Name => Ok(deployment.name.to_string()),
        Placeholder::Ip => address(deployment.access.ip.as_deref(), reach).map(|ip| ip.to_string()),
    })?;
    let url = format!("{}/api/v1/query", url.trim_end_matches('/'));
    read(&http.get(&url, &[("query", &query)]).await?)
}

/// The value of each series; NaN where it is none.
fn read(body: &[u8]) -> Result<Vec<f64>, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| "Prometheus does not answer as documented".to_owned())?;
    let number = |(_, text): (f64, String)| text.parse().unwrap_or(f64::NAN);
    let values: Vec<f64> = match answer.data {
        Some(Data::Vector(series)) if answer.status == "success" => {
            series.into_iter().map(|series| series.value.map_or(f64::NAN, number)).collect()
        }
        Some(Data::Scalar(value)) if answer.status == "success" => vec![number(value)],
        Some(Data::Matrix(_) | Data::String(_)) => {
            return Err("the query does not give an instant vector; check `query`".to_owned());
        }
        Some(_) | None => return Err("Prometheus reports an error; check `query`".to_owned()),
    };
    if values.is_empty() { Err("the query finds nothing for this deployment".to_owned()) } else { Ok(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_72_an_empty_result_is_unknown_and_not_zero() {
        for (body, expected) in [
            (r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#, Err("finds nothing")),
            (r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, Err("instant vector")),
            (r#"{"status":"error","errorType":"bad_data","error":"x"}"#, Err("reports an error")),
            (
                r#"{"status":"error","data":{"resultType":"scalar","result":[1,"0"]}}"#,
                Err("reports an error"),
            ),
            (r#"{"status":"success"}"#, Err("reports an error")),
            ("<html>", Err("as documented")),
            (
                r#"{"status":"success","data":{"resultType":"scalar","result":[1790000000.1,"3.5"]}}"#,
                Ok(vec![3.5]),
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"gpu":"0"},"value":[1.5,"4"]},
                    {"metric":{"gpu":"1"},"value":[1.5,"97.5"]}]},"warnings":["x"]}"#,
                Ok(vec![4.0, 97.5]),
            ),
        ] {
            match (read(body.as_bytes()), expected) {
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{body}: {why}"),
                (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{body}"),
            }
        }
        let nan = r#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"NaN"]},{}]}}"#;
        assert!(read(nan.as_bytes()).unwrap().iter().all(|value| value.is_nan()));
    }
}
