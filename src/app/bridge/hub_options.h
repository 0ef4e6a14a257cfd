/* SPDX-License-Identifier: Apache-2.0 */
/* hub_options: the options of the command line that are a hub's. Any thread. */
#ifndef JR_APP_BRIDGE_HUB_OPTIONS_H
#define JR_APP_BRIDGE_HUB_OPTIONS_H

#include "app/bridge/hub.h"
#include "app/config.h"

/* Pool, streams and what is published; the texts borrow from cfg. The caller adds loop, connection,
 * client, and metrics and callbacks where it has them. */
void jr_bridge_hub_options(const struct jr_config *cfg, struct jr_bridge_hub_config *ret);

#endif
