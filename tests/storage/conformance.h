/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every storage promises, as tests that run over each: a storage brings an opener and gets the
 * whole suite by STORAGE_CONFORMANCE(suite, opener).
 */
#ifndef STORAGE_CONFORMANCE_H
#define STORAGE_CONFORMANCE_H

#include "keyweir/keyweir.h"
#include "keyweir/storage.h"
#include "tests/support/kwr_test.h"

/* An empty storage for one test. */
typedef struct storage_place {
    kwr_env *env;
    kwr_storage *storage;
    char uri[1024]; /* opens the same place once more; "" where that is not possible */
    void *ctx;      /* the opener's */
} storage_place;

typedef struct storage_opener {
    void (*open)(storage_place *place);  /* env is set; fails the test on errors */
    void (*close)(storage_place *place); /* after the storage was closed; clears the place away */
    bool slow;                           /* a real server: of exhaustive loops only some rounds */
    size_t large;                        /* bytes of the large file; 0: 24 MiB */
    size_t memory;                       /* it may take; 0: 8 MiB */
} storage_opener;

/* Storage, environment and place, with the fields above set. */
void storage_place_open(storage_place *place, const storage_opener *opener);
void storage_place_close(storage_place *place, const storage_opener *opener);

void storage_publishes_whole_and_never_replaces(const storage_opener *opener);
void storage_reads_back_in_ranges(const storage_opener *opener);
void storage_creates_exclusively(const storage_opener *opener);
void storage_answers_missing_and_mistaken_names(const storage_opener *opener);
void storage_lists_and_removes(const storage_opener *opener);
void storage_lists_many_names(const storage_opener *opener);
void storage_takes_every_name_of_the_grammar(const storage_opener *opener);
void storage_lets_one_of_many_publishers_win(const storage_opener *opener);
void storage_lets_one_of_many_writers_win(const storage_opener *opener);
void storage_serves_writers_and_readers_at_once(const storage_opener *opener);
void storage_streams_large_files(const storage_opener *opener);
void storage_shows_what_another_opener_wrote(const storage_opener *opener);
void storage_keeps_locks_or_says_so(const storage_opener *opener);
void storage_describes_its_paths(const storage_opener *opener);
void storage_survives_want_of_memory(const storage_opener *opener);

#define STORAGE_CONFORMANCE(suite, opener)                                                        \
    KWR_TEST(suite, a_published_file_is_whole_and_never_replaced) {                               \
        storage_publishes_whole_and_never_replaces(&(opener));                                    \
    }                                                                                             \
    KWR_TEST(suite, a_created_file_reads_back_in_ranges) {                                        \
        storage_reads_back_in_ranges(&(opener));                                                  \
    }                                                                                             \
    KWR_TEST(suite, creating_is_exclusive_and_abandoning_leaves_nothing) {                        \
        storage_creates_exclusively(&(opener));                                                   \
    }                                                                                             \
    KWR_TEST(suite, missing_and_mistaken_names_have_their_statuses) {                             \
        storage_answers_missing_and_mistaken_names(&(opener));                                    \
    }                                                                                             \
    KWR_TEST(suite, lists_by_prefix_and_removes_only_empty_directories) {                         \
        storage_lists_and_removes(&(opener));                                                     \
    }                                                                                             \
    KWR_TEST(suite, a_long_listing_has_each_name_once) { storage_lists_many_names(&(opener)); }   \
    KWR_TEST(suite, every_name_of_the_grammar_works) {                                            \
        storage_takes_every_name_of_the_grammar(&(opener));                                       \
    }                                                                                             \
    KWR_TEST(suite, of_concurrent_publishers_exactly_one_wins) {                                  \
        storage_lets_one_of_many_publishers_win(&(opener));                                       \
    }                                                                                             \
    KWR_TEST(suite, of_concurrent_writers_of_a_name_at_most_one_finishes) {                       \
        storage_lets_one_of_many_writers_win(&(opener));                                          \
    }                                                                                             \
    KWR_TEST(suite, writers_and_readers_do_not_disturb_each_other) {                              \
        storage_serves_writers_and_readers_at_once(&(opener));                                    \
    }                                                                                             \
    KWR_TEST(suite, large_files_are_streamed, .timeout = 300) {                                   \
        storage_streams_large_files(&(opener));                                                   \
    }                                                                                             \
    KWR_TEST(suite, whoever_opens_the_place_again_sees_the_same) {                                \
        storage_shows_what_another_opener_wrote(&(opener));                                       \
    }                                                                                             \
    KWR_TEST(suite, a_lock_keeps_others_out_or_is_refused) {                                      \
        storage_keeps_locks_or_says_so(&(opener));                                                \
    }                                                                                             \
    KWR_TEST(suite, paths_for_messages_name_the_file) { storage_describes_its_paths(&(opener)); } \
    KWR_TEST(suite, without_memory_calls_fail_and_lose_nothing) {                                 \
        storage_survives_want_of_memory(&(opener));                                               \
    }                                                                                             \
    _Static_assert(sizeof(storage_opener) > 0, "takes the semicolon")

#endif /* STORAGE_CONFORMANCE_H */
