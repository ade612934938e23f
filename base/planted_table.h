/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planted mistakes: X(name, what it breaks, what it does). R1 to R10 are the rules in
 * docs/testing.md; A, B, P and S are the numbered invariants of docs/architecture.md, barriers.md,
 * page-store.md and storage.md. Included by base/planted.h and by the runner in tests/sim.
 */
#ifndef KWR_BASE_PLANTED_TABLE_H
#define KWR_BASE_PLANTED_TABLE_H

#define KWR_PLANTED_TABLE(X)                                                                      \
    /* storage in files */                                                                        \
    X(published_in_place, "R1 S1", "a slot is written under its name, without a temporary file")  \
    X(name_replaced, "R3 R6 S1 A1", "publishing replaces a slot that is there")                   \
    X(temp_unsynced, "R2 S1", "a slot is linked without its bytes being synced")                  \
    X(name_unsynced, "R2 S1", "a slot's directory is not synced")                                 \
    X(name_sync_failure_ignored, "R5 R10 S2", "a failed sync of the slot's directory is ignored") \
    X(unknown_is_failure, "R1 S2", "an unknown outcome counts as not published")                  \
    X(failed_link_is_failure, "R1 S2", "a failed link is believed, the name not looked at")       \
    X(file_unsynced, "R2 S3 A3", "files are closed without a sync")                               \
    X(sync_retried, "R5 S3", "a failed sync of a file is tried again")                            \
    X(flush_failure_ignored, "R5 R10 S3", "a file is finished although a write failed")           \
    X(short_write_is_all, "R10 S3", "a short write counts as the whole")                          \
    X(short_read_is_all, "R4 S4", "a short read counts as the whole")                             \
    /* the log and checkpoints */                                                                 \
    X(slot_unchecked, "R4 A4", "a slot's digest is not compared")                                 \
    X(damaged_slot_is_absent, "R8 A4", "a damaged highest slot counts as not there")              \
    X(dirs_unsynced, "R2 A3", "the directories of a new job are not synced")                      \
    X(probe_by_name_only, "R6 A2", "a free name of a slot counts as no higher slot")              \
    X(checkpoint_dir_unsynced, "R2 A3", "names in a checkpoint's directory are not synced")       \
    X(job_dir_unsynced, "R2 A3", "the name of a checkpoint's directory is not synced")            \
    X(manifest_unchecked, "R4 A4", "a manifest's digest and length are not compared")             \
    X(generation_not_in_name, "R3", "checkpoints of all attempts share names")                    \
    X(shared_unsynced, "R2 A3", "names of data files are not synced")                             \
    X(data_file_overwritten, "R3", "each checkpoint of a task writes the same data file")         \
    X(image_unchecked, "R4 A4", "the checksum of a page image is not compared")                   \
    X(damaged_image_skipped, "R8 A4", "a restore goes on without a damaged page image")           \
    X(damage_unnamed, "R10", "an error about a damaged manifest does not name it")                \
    X(removed_too_soon, "R1 R7 A3", "what a checkpoint replaces is removed before its slot is")   \
    X(floor_too_high, "R7 A1", "removal takes the lowest slot that is kept as well")              \
    X(unread_counts_as_unused, "R7 R10", "files of a manifest that cannot be read are removed")   \
    X(own_files_swept, "R7", "sweeping takes files of the attempt that sweeps")                   \
    X(log_temps_stay, "R7", "temporary files of the log are not swept")                           \
    /* taking over */                                                                             \
    X(fence_skipped, "R6 A2", "a start publishes no fence and goes on as the attempt before")     \
    X(fence_not_on_top, "R6 A2", "a start does not look for slots above its fence")               \
    X(log_unsynced, "R2 A3", "a start does not sync the log it found")                            \
    X(older_chosen_silently, "R8 A4", "a damaged newest checkpoint: an older one is restored")    \
    X(damage_starts_empty, "R8 A4", "a damaged newest checkpoint: the job starts empty")          \
    /* the job */                                                                                 \
    X(taken_slot_is_ours, "R6 A2", "the slot is taken: counts as published")                      \
    X(told_unfenced, "R6 A2", "no look for a higher slot before telling anyone")                  \
    X(failed_write_published, "R1 R10", "a failed write of the manifest counts as published")     \
    X(failed_publish_told, "R10 A1", "a slot that could not be made counts as published")         \
    X(foreign_ack_counted, "R6", "a job takes messages of other generations")                     \
    X(id_used_again, "R3 B14 B25", "an aborted checkpoint's id is used for the next")             \
    /* the task */                                                                                \
    X(frozen_late, "R1 B1 B2 A5", "the state is frozen when it is written, not at the barrier")   \
    X(trigger_taken_twice, "R10 B14", "a trigger that comes twice is answered twice")             \
    X(foreign_message_taken, "R6 B10", "a task takes messages of other generations")              \
    X(abort_removes_completed, "R7", "an abort removes the files of older checkpoints too")       \
    X(abort_drops_output, "R7 A6", "an abort forgets the committables of its checkpoint")         \
    X(newer_output_forgotten, "R1", "a commit forgets committables of later checkpoints")         \
    X(older_output_left_out, "R1", "a checkpoint carries only its own committables")              \
    X(output_not_restored, "R1", "committables are not restored")                                 \
    X(no_memory_leaves_out, "R10 A6", "without memory a part leaves out committables")            \
    X(all_output_committed, "R1", "a commit makes later, open output visible too")                \
    /* alignment */                                                                               \
    X(first_barrier_snapshots, "R1 B1", "the first barrier takes the snapshot")                   \
    X(not_blocked, "R1 B2", "a channel behind its barrier is read on")                            \
    X(abort_keeps_blocked, "R9 B3", "an abort leaves channels blocked")                           \
    X(newer_keeps_blocked, "R9 B3 B6", "a newer barrier leaves channels blocked")                 \
    X(double_barrier_counted, "R1 B4", "a barrier that comes twice counts for two channels")      \
    X(end_of_row_restarts, "R1 B5", "a late barrier starts its checkpoint anew")                  \
    X(marker_is_barrier, "R10 B7", "a cancelled barrier counts as a barrier")                     \
    X(aborted_is_taken, "R10 B9", "a barrier after its abort is aligned and taken")               \
    X(foreign_barrier_counted, "R6 B10", "barriers of other attempts count")                      \
    /* coordination */                                                                            \
    X(acks_are_a_number, "R1 B15 B21", "an ack that comes twice counts twice")                    \
    X(late_ack_counted, "R1 B15 B21", "an ack of an older checkpoint counts")                     \
    X(one_ack_missing, "R1 B15", "published with one ack missing")                                \
    X(told_before_published, "R2 B16 A1", "completion is told when all acks are there")           \
    X(no_timeout, "R9 B19", "a checkpoint is never given up")                                     \
    X(publishing_timed_out, "R1 B22 B17", "a checkpoint is given up while it is published")       \
    X(interval_ignored, "R9 B23", "the next checkpoint is due at once")                           \
    X(retry_unpaced, "R9 B19", "a failed last checkpoint is repeated at once")                    \
    X(failure_not_tolerated, "R7 B24", "the first failed checkpoint ends the attempt")            \
    X(final_too_soon, "R1 B26", "the first ended source makes a checkpoint final")                \
    X(finished_too_soon, "R1 B18 B26", "any checkpoint after the end of the sources is the last") \
    /* the page store */                                                                          \
    X(frozen_page_written, "R1 P2 A5", "a page that a view shares is changed in place")           \
    X(frozen_node_written, "R1 P2 A5", "a directory node that a view shares is changed in place") \
    X(frozen_block_freed, "R1 P2 P7 A5", "a block goes back while a view can reach it")           \
    X(entries_miscounted, "R4 P5", "the bytes of new entries are not counted")                    \
    X(freed_block_lost, "R9 P7", "blocks of a released view are not given back")                  \
    X(stale_page_found, "R1 P1", "a copied page is not put into the directory")                   \
    /* increments and lazy restores */                                                            \
    X(inline_deltas_unknown, "R1 A5", "deltas that came inline are not known to the next step")   \
    X(lazy_deltas_skipped, "R1 A5", "a page is loaded without its deltas")                        \
    X(deltas_go_while_loading, "R1 A5", "deltas go while pages that need them are not loaded")

#endif /* KWR_BASE_PLANTED_TABLE_H */
