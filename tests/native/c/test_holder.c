/* test_holder.c: whether a pid in a segment can be that of who holds it. */
#define _GNU_SOURCE
#include "../../../src/core/segment/holder.h"
#include "../../../src/core/segment/locks.h"
#include "rig.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct shmipc_error error;

static void wait_for_ever(void *argument)
{
    (void)argument;
    pause();
}

static void test_own_pid_counts_where_another_mapping_of_ours_has_the_file(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment other;
    struct rig rig;
    const uint32_t pid = (uint32_t)getpid();
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    /* alone: somebody else calls himself as we are called */
    CHECK_EQ(shmipc_holder_find(&rig.segment, pid), SHMIPC_HOLDER_ELSEWHERE);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_holder_find(&other, pid), SHMIPC_HOLDER_UNKNOWN); /* not mapped yet */
    CHECK_EQ(shmipc_segment_map(&other, false, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_holder_find(&other, pid), SHMIPC_HOLDER_HERE);
    CHECK_EQ(shmipc_holder_find(&rig.segment, pid), SHMIPC_HOLDER_HERE);
    CHECK_EQ(strlen(shmipc_holder_note(&rig.segment, pid)), 0);
    (void)shmipc_segment_unlink(&other);
    shmipc_segment_close(&other);
    rig_close(&rig);
}

static void test_other_pid_counts_where_its_process_maps_the_file(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct rig rig;
    const pid_t stranger = test_fork(wait_for_ever, NULL);
    rig_open(&rig, &spec);
    const pid_t heir = test_fork(wait_for_ever, NULL); /* has our mappings */
    CHECK_EQ(shmipc_holder_find(&rig.segment, (uint32_t)heir), SHMIPC_HOLDER_HERE);
    CHECK_EQ(shmipc_holder_find(&rig.segment, (uint32_t)stranger), SHMIPC_HOLDER_ELSEWHERE);
    CHECK(strstr(shmipc_holder_note(&rig.segment, (uint32_t)stranger), "pid namespace") != NULL);
    test_kill(heir);
    CHECK_EQ(shmipc_holder_find(&rig.segment, (uint32_t)heir), SHMIPC_HOLDER_ELSEWHERE); /* gone */
    test_kill(stranger);
    rig_close(&rig);
}

static void test_process_without_mappings_to_show_is_unknown(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct rig rig;
    siginfo_t ended;
    rig_open(&rig, &spec);
    const pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    CHECK_EQ(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT), 0); /* a zombie */
    CHECK_EQ(shmipc_holder_find(&rig.segment, (uint32_t)child), SHMIPC_HOLDER_UNKNOWN);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    rig_close(&rig);
}

static void test_number_that_is_no_pid_is_unknown(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_holder_find(&rig.segment, 0), SHMIPC_HOLDER_UNKNOWN);
    CHECK_EQ(shmipc_holder_find(&rig.segment, UINT32_MAX), SHMIPC_HOLDER_UNKNOWN);
    CHECK_EQ(shmipc_holder_find(&rig.segment, UINT32_C(1) << 31), SHMIPC_HOLDER_UNKNOWN);
    rig_close(&rig);
}

static void test_successors_lock_is_none_of_those_that_hold_a_ring(void)
{
    struct shmipc_spec spec = rig_message_spec(SHMIPC_MAX_CONSUMERS);
    struct shmipc_segment other;
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(SHMIPC_LOCK_SUCCESSOR, 1026); /* docs/format.md */
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK(shmipc_lock_try(&other, SHMIPC_LOCK_SUCCESSOR));
    CHECK(shmipc_lock_is_held(&rig.segment, SHMIPC_LOCK_SUCCESSOR, 1));
    CHECK(!shmipc_segment_is_shared(&rig.segment));
    shmipc_segment_close(&other);
    CHECK(!shmipc_lock_is_held(&rig.segment, SHMIPC_LOCK_SUCCESSOR, 1));
    (void)shmipc_segment_unlink(&rig.segment);
    rig_close(&rig);
}

static const struct test tests[] = {
    TEST(test_own_pid_counts_where_another_mapping_of_ours_has_the_file),
    TEST(test_other_pid_counts_where_its_process_maps_the_file),
    TEST(test_process_without_mappings_to_show_is_unknown),
    TEST(test_number_that_is_no_pid_is_unknown),
    TEST(test_successors_lock_is_none_of_those_that_hold_a_ring),
};

TEST_MAIN(tests)
