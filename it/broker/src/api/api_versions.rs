//! ApiVersions (18), versions 0 to 4.

use super::{Api, Call, Outcome, Served, answer};
use crate::state::{State, wire};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use tidewatch_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

impl Api for ApiVersionsRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<ApiVersionsResponse> {
        let checked = call.on_whole(|| {
            let named = is_valid_software(&self.client_software_name)
                && is_valid_software(&self.client_software_version);
            if call.version < 3 || named {
                Ok(())
            } else {
                Err(ErrorCode::INVALID_REQUEST)
            }
        });
        let mut response = ApiVersionsResponse::default().with_throttle_time_ms(call.throttle_ms);
        match checked {
            Ok(()) => fill(&mut response, state),
            Err(code) => response.error_code = code.0,
        }
        Outcome::Answer(response)
    }
}

fn fill(response: &mut ApiVersionsResponse, state: &State) {
    response.api_keys = state
        .options
        .apis
        .iter()
        .map(|(key, versions)| {
            ApiVersion::default()
                .with_api_key(key)
                .with_min_version(versions.min)
                .with_max_version(versions.max)
        })
        .collect();
    let levels = || {
        state
            .options
            .features
            .iter()
            .filter(|(_, level)| **level > 0)
    };
    response.finalized_features_epoch = 1;
    response.finalized_features = levels()
        .map(|(name, level)| {
            FinalizedFeatureKey::default()
                .with_name(wire(name))
                .with_min_version_level(*level)
                .with_max_version_level(*level)
        })
        .collect();
    // Version 3 cannot say a lowest level of 0 (KAFKA-17011), so 1 it is.
    response.supported_features = levels()
        .map(|(name, level)| {
            SupportedFeatureKey::default()
                .with_name(wire(name))
                .with_min_version(1)
                .with_max_version(*level)
        })
        .collect();
}

/// KIP-511: letters and digits, with dashes and dots between them.
fn is_valid_software(name: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(ends)
        && name.ends_with(ends)
        && name.chars().all(|c| ends(c) || matches!(c, '-' | '.'))
}

/// The answer to a version that is not served: a body of version 0, error 35, and the range of
/// ApiVersions alone (KIP-511).
pub(crate) fn encode_unsupported(state: &State, call: &Call) -> Served {
    let own = state.options.apis.range(ApiKey::ApiVersions as i16);
    let api_keys = own.map(|versions| {
        ApiVersion::default()
            .with_api_key(ApiKey::ApiVersions as i16)
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
        .with_api_keys(api_keys.into_iter().collect());
    answer::<ApiVersionsRequest>(
        &response,
        &Call {
            version: 0,
            ..call.clone()
        },
    )
}
