/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine that is obviously right: sorted arrays, a freeze copies all of them. It proves that
 * the conformance suite and the state handles rest on the engine seam and on nothing else, and
 * being the strictest reader of the seam's promises it ends every borrow as early as it may and
 * checks every address and hint it is given.
 */
#ifndef KWR_TESTS_MODEL_ENGINE_H
#define KWR_TESTS_MODEL_ENGINE_H

#include "backend/engine.h"

extern const kwr_engine_ops model_engine_ops;

#endif /* KWR_TESTS_MODEL_ENGINE_H */
