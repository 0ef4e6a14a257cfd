/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/hub_options.h"

void jr_bridge_hub_options(const struct jr_config *cfg, struct jr_bridge_hub_config *ret)
{
    uint32_t n;
    *ret = (struct jr_bridge_hub_config){
        .namespace_ = jr_config_str(cfg, JR_CFG_NAMESPACE),
        .component = jr_config_list(cfg, JR_CFG_COMPONENT, &n)[0],
        .lease_ttl_ms = jr_config_ms(cfg, JR_CFG_LEASE_TTL_SECS),
        .stream_max_bytes = jr_config_u64(cfg, JR_CFG_STREAM_MAX_BYTES),
        .nats_replicas = jr_config_u32(cfg, JR_CFG_NATS_REPLICAS),
        .event_json = jr_config_enum(cfg, JR_CFG_EVENT_FORMAT) == 1,
        .lower_media = jr_config_lower_media(cfg),
    };
}
