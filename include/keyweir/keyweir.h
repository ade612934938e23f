/* SPDX-License-Identifier: Apache-2.0 */
/* All of keyweir, in reading order. */
#ifndef KEYWEIR_KEYWEIR_H
#define KEYWEIR_KEYWEIR_H

#include "keyweir/status.h"
#include "keyweir/limits.h"
#include "keyweir/env.h"
#include "keyweir/type.h"
#include "keyweir/row.h"
#include "keyweir/backend.h"
#include "keyweir/state.h"
#include "keyweir/timers.h"
#include "keyweir/raw.h"
#include "keyweir/across.h"
#include "keyweir/list.h"
#include "keyweir/map.h"
#include "keyweir/typed.h"
#include "keyweir/storage.h"
#include "keyweir/snapshot.h"
#include "keyweir/fsck.h"
#include "keyweir/barrier.h"
#include "keyweir/watermark.h"
#include "keyweir/task.h"

#endif /* KEYWEIR_KEYWEIR_H */
