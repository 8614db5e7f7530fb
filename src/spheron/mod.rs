//! The Spheron API: what may be asked, how often, over which wire, and what of the answers may be believed.
//!
//! It must never guess: an answer that is not as documented is unknown, and an unknown is never an empty list or a zero.

mod allow;
mod client;
mod governor;
mod headers;
pub mod key;
mod transport;
mod wire;

pub use allow::{Endpoint, Method, PathError};
pub use client::{Answered, Client};
pub use governor::{Governor, Need, Stretches};
pub use transport::{
    Request, Response, SendError, Transport,
    http::{BuildError, HttpOptions, HttpTransport},
};
