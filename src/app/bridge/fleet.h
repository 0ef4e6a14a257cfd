/* SPDX-License-Identifier: Apache-2.0 */
/* fleet: the bridges of the engines that the files of a directory name. Loop thread only; files are
 * read on a lane.
 *
 *     DIR/NAME.json, looked at each second, or when told
 *         new             a bridge more
 *         another text    its bridge is closed, then begun anew
 *         gone            closed: its worker leaves
 *         not readable    told once; what ran goes on, also where there are too many files
 *
 * Names that begin with a dot, or do not end in .json, are no engines: write a file under such a name
 * and rename it. Files are engine_spec.h's. */
#ifndef JR_APP_BRIDGE_FLEET_H
#define JR_APP_BRIDGE_FLEET_H

#include "app/bridge/hub.h"

struct jr_bridge_fleet;

/* Looks at once. dir is copied; the hub is borrowed until the fleet is stopped. JR_EIO. */
JR_MUST_CHECK int jr_bridge_fleet_create(struct jr_loop *loop, struct jr_bridge_hub *hub,
                                         const char *dir, struct jr_bridge_fleet **ret,
                                         struct jr_errmsg *e);
/* Looks now, and takes files that were refused for another try. */
void jr_bridge_fleet_look(struct jr_bridge_fleet *f);
/* Looks no more; its bridges are the hub's to close. Waits for a look under way. */
void jr_bridge_fleet_stop(struct jr_bridge_fleet *f);
/* Behind the hub's end. NULL is fine. */
void jr_bridge_fleet_destroy(struct jr_bridge_fleet *f);

#endif
