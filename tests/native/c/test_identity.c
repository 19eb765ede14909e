/* test_identity.c: what a file, a descriptor and a role are known by, where names and numbers
 * deceive: descriptors that other code closes, files that are removed, owners, dead producers. */
#define _GNU_SOURCE
#include "api.h"
#include "crew.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct shmipc_error error;

/* ---- a system that refuses ------------------------------------------------------------------ */

static bool no_unnamed_files;
static bool no_lock_queries;
static bool no_second_mapping;

static void refuse(bool *what)
{
#ifdef TEST_STATIC
    test_skip("libc's calls cannot be replaced in a static program");
#endif
    *what = true;
}

#ifndef TEST_STATIC
/* In place of libc's, for the core that is linked with this. */
int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (no_unnamed_files && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (no_lock_queries && command == F_OFD_GETLK) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

void *mremap(void *at, size_t old_len, size_t len, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *to = va_arg(arguments, void *);
    va_end(arguments);
    if (no_second_mapping && old_len == 0) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, at, old_len, len, flags, to); /* NOLINT: an address */
}
#endif

static void test_segment_without_unnamed_files_has_a_temporary_name_until_it_is_published(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment first;
    struct shmipc_segment second;
    struct stat status;
    char temporary[2 * SHMIPC_PATH_MAX];
    const char *path = test_path("x");
    refuse(&no_unnamed_files);
    CHECK_EQ(shmipc_segment_create(&first, path, &spec, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_create(&second, path, &spec, &error), SHMIPC_OK);
    CHECK(strncmp(first.temporary, ".shmipc.", 8) == 0);
    CHECK(strcmp(first.temporary, second.temporary) != 0);
    CHECK(!test_exists(path));
    (void)snprintf(temporary, sizeof temporary, "%s/%s", getenv("SHMIPC_DIR"), first.temporary);
    CHECK(test_exists(temporary));
    CHECK_EQ(shmipc_segment_publish(&first, &error), SHMIPC_OK);
    CHECK(!test_exists(temporary));
    CHECK_EQ(fstat(first.fd, &status), 0);
    CHECK_EQ(status.st_nlink, 1);
    CHECK_EQ(status.st_mode & 0777, spec.mode);
    CHECK_EQ(shmipc_segment_publish(&second, &error), SHMIPC_BUSY);
    shmipc_segment_close(&second); /* and with it its name: the harness looks for files left */
    CHECK_EQ(shmipc_segment_map(&first, true, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_examine(&first), SHMIPC_OK);
    CHECK(shmipc_segment_unlink(&first));
    shmipc_segment_close(&first);
}

static void test_ring_without_unnamed_files_lives_as_any_other(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    refuse(&no_unnamed_files);
    open_producer(&producer, &spec);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    send_one(&producer);
    receive_one(&consumer, 0);
    CHECK_EQ(shmipc_producer_role_close(&producer, false), SHMIPC_OK);
    shmipc_consumer_role_close(&consumer);
    CHECK(!test_exists(test_path("x")));
}

static void test_system_that_does_not_tell_who_holds_a_lock_is_refused(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_producer_role other;
    struct shmipc_consumer_role consumer;
    refuse(&no_lock_queries);
    no_lock_queries = false;
    open_producer(&producer, &spec);
    no_lock_queries = true;
    CHECK_EQ(shmipc_consumer_role_open(&consumer, test_path("x"), SHMIPC_START_RESUME, &error),
             SHMIPC_OS);
    CHECK_EQ(error.os_error, EINVAL);
    CHECK(strstr(error.text, "F_OFD_GETLK") != NULL);
    CHECK_EQ(shmipc_producer_role_open(&other, test_path("y"), &spec, &error), SHMIPC_OS);
    CHECK(!test_exists(test_path("y")));
    no_lock_queries = false;
    (void)shmipc_producer_role_close(&producer, false);
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static void test_lock_outlives_its_descriptor_and_ends_with_the_handle(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_producer_role other;
    open_producer(&producer, &spec);
    const int fd = producer.segment.fd;
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(shmipc_producer_role_open(&other, test_path("x"), &spec, &error), SHMIPC_BUSY);
    send_one(&producer);
    CHECK_EQ(shmipc_segment_examine(&producer.segment), SHMIPC_CORRUPT);
    CHECK_EQ(shmipc_segment_fail_damaged(&producer.segment, &error), SHMIPC_CORRUPT);
    CHECK(strstr(error.text, "closed by other code") != NULL);
    CHECK_EQ(open("/dev/null", O_RDONLY), fd);
    CHECK_EQ(shmipc_producer_role_close(&producer, false), SHMIPC_OK);
    CHECK(fcntl(fd, F_GETFD) >= 0); /* theirs */
    open_producer(&other, &spec);
    CHECK(other.took_over);
    (void)shmipc_producer_role_close(&other, false);
    CHECK_EQ(close(fd), 0);
}

static void test_number_of_another_open_of_the_same_file_is_not_used(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role first;
    struct shmipc_consumer_role second;
    open_producer(&producer, &spec);
    open_consumer(&first, SHMIPC_START_RESUME);
    const int fd = first.segment.fd;
    CHECK_EQ(close(fd), 0);
    open_consumer(&second, SHMIPC_START_RESUME);
    CHECK_EQ(second.segment.fd, fd);
    CHECK(second.ring.slot_index != first.ring.slot_index);
    CHECK_EQ(await_data(&first, PATIENCE), SHMIPC_CORRUPT);
    shmipc_consumer_role_close(&first); /* drops neither the lock nor the descriptor of second */
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 1);
    send_one(&producer);
    receive_one(&second, 0);
    shmipc_consumer_role_close(&second);
    (void)shmipc_producer_role_close(&producer, false);
}

/* ---- removed files -------------------------------------------------------------------------- */

static void test_removed_file_is_told_to_both_sides_until_they_close(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    send_one(&producer);
    CHECK_EQ(unlink(test_path("x")), 0);
    receive_one(&consumer, 0);
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_REMOVED);
    CHECK_EQ(shmipc_consumer_role_poll_peer(&consumer), SHMIPC_REMOVED);
    CHECK_EQ(await_room(&producer, spec.capacity, PATIENCE), SHMIPC_OK); /* empty: it does fit */
    while (shmipc_ring_room(&producer.ring) >= 64) {
        send_one(&producer);
    }
    CHECK_EQ(await_room(&producer, producer.ring.map.area_len, PATIENCE), SHMIPC_REMOVED);
    CHECK_EQ(shmipc_producer_role_poll_peers(&producer), SHMIPC_REMOVED);
    CHECK_EQ(shmipc_producer_role_close(&producer, false), SHMIPC_OK); /* its consumer is there */
    CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_OK);
    shmipc_consumer_role_close(&consumer);
}

static void test_close_tells_of_messages_in_a_removed_file(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producer;
    open_producer(&producer, &spec);
    send_one(&producer);
    CHECK_EQ(unlink(test_path("x")), 0);
    CHECK_EQ(shmipc_producer_role_close(&producer, false), SHMIPC_REMOVED);
    CHECK_EQ(shmipc_producer_role_close(&producer, false), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_fail_undelivered(&producer.segment, &error), SHMIPC_REMOVED);
}

static void test_name_dismissed_by_its_producer_alarms_nobody(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    CHECK_EQ(shmipc_segment_dismiss(&producer.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_dismiss(&producer.segment, &error), SHMIPC_OK);
    CHECK(!test_exists(test_path("x")));
    CHECK_EQ(shmipc_segment_examine(&producer.segment), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_examine(&consumer.segment), SHMIPC_OK);
    CHECK_EQ(shmipc_producer_role_close(&producer, false), SHMIPC_OK);
    shmipc_consumer_role_close(&consumer);
}

static void test_c_api_tells_of_a_removed_file_and_closes_all_the_same(void)
{
    struct api_pair pair = api_open(NULL, 1 << 16, 1, SHMIPC_BLOCK);
    struct shmipc_view view;
    unsigned char is_ready = 0;
    CHECK_EQ(unlink(test_path("x")), 0);
    DONE(shmipc_wait(&pair.consumer, 1, &is_ready, PATIENCE_NS));
    CHECK_EQ(is_ready, 1);
    for (int i = 0; i < 2; i++) {
        CHECK_RESULT(shmipc_consumer_wait(pair.consumer, PATIENCE_NS), SHMIPC_E_REMOVED);
        SAID("RemoveIPC=no");
    }
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_REMOVED);
    shmipc_consumer_free(pair.consumer);
    api_send(pair.producer, 0, 10);
    CHECK_RESULT(shmipc_producer_close(pair.producer), SHMIPC_E_REMOVED);
    SAID("went with it");
    DONE(shmipc_producer_close(pair.producer));
    shmipc_producer_free(pair.producer);
}

/* ---- whose it is ---------------------------------------------------------------------------- */

static void test_producer_refuses_a_file_of_another_user(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    struct shmipc_producer *by_api;
    const char *path = test_path("x");
    if (geteuid() != 0) {
        test_skip("only root may give a file away");
    }
    const pid_t child = test_fork(be_a_producer, &spec);
    test_gate_pass(&ready);
    test_kill(child);
    CHECK_EQ(chown(path, 12345, 12345), 0);
    CHECK_EQ(shmipc_producer_role_open(&producer, path, &spec, &error), SHMIPC_OS);
    CHECK_EQ(error.os_error, EPERM);
    CHECK(strstr(error.text, "12345") != NULL);
    CHECK_RESULT(shmipc_producer_open(&by_api, "x", NULL), SHMIPC_E_OS);
    CHECK_EQ(shmipc_last_errno(), EPERM);
    open_consumer(&consumer, SHMIPC_START_RESUME); /* reading is what mode is for */
    shmipc_consumer_role_close(&consumer);
    (void)unlink(path);
}

static void test_file_of_ones_own_gets_the_mode_asked_for_and_never_keeps_a_wider_one(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    struct stat status;
    const char *path = test_path("x");
    spec.mode = 0600;
    const pid_t child = test_fork(be_a_producer, &spec);
    test_gate_pass(&ready);
    test_kill(child);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    spec.mode = 0660;
    open_producer(&producer, &spec);
    CHECK(producer.took_over);
    CHECK_EQ(stat(path, &status), 0);
    CHECK_EQ(status.st_mode & 07777, 0660);
    (void)shmipc_producer_role_close(&producer, false);
    spec.mode = 0640;
    CHECK_EQ(shmipc_producer_role_open(&producer, path, &spec, &error), SHMIPC_MISMATCH);
    CHECK(strstr(error.text, "mode 0660") != NULL);
    shmipc_consumer_role_close(&consumer);
}

/* ---- the last one out ----------------------------------------------------------------------- */

static void test_last_consumer_of_a_dead_producer_removes_the_file_unless_it_owes(void)
{
    for (uint32_t slots = 2; slots >= 1; slots--) {
        struct shmipc_spec spec = rig_message_spec(slots);
        struct shmipc_consumer_role consumer;
        const pid_t child = test_fork(be_a_producer, &spec);
        test_gate_pass(&ready);
        open_consumer(&consumer, SHMIPC_START_RESUME);
        test_kill(child);
        shmipc_consumer_role_close(&consumer);
        CHECK_EQ(test_exists(test_path("x")), slots == 1);
    }
    struct shmipc_consumer_role consumer;
    open_consumer(&consumer, SHMIPC_START_RESUME);
    receive_one(&consumer, 0);
    receive_one(&consumer, 1);
    shmipc_consumer_role_close(&consumer);
    CHECK(!test_exists(test_path("x")));
}

/* ---- a private copy ------------------------------------------------------------------------- */

static void check_private_copy(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct shmipc_segment other;
    struct rig rig;
    spec.capacity = 1 << 16;
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_map(&other, true, &error), SHMIPC_OK);
    const uint64_t area = rig.segment.geometry.area_len;
    rig_fill(rig.segment.data, area, 1);
    shmipc_segment_privatize(&rig.segment);
    rig_fill(other.data, area, 2); /* as a successor does */
    CHECK(rig_matches(rig.segment.data, area, 1));
    CHECK(rig_matches(rig.segment.data + area, area, 1));
    rig_fill(rig.segment.data, area, 3);
    CHECK(rig_matches(other.data, area, 2));
    (void)shmipc_segment_unlink(&other);
    shmipc_segment_close(&other);
    rig_close(&rig);
}

static void test_private_copy_shows_nothing_that_is_written_later(void)
{
    check_private_copy();
}

static void test_private_copy_needs_no_second_mapping_of_itself(void)
{
    refuse(&no_second_mapping);
    check_private_copy();
}

static void test_data_that_cannot_be_copied_become_read_only(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct rig rig;
    const struct rlimit none = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
    struct rlimit before;
    if (getenv("TEST_EMULATED") != NULL) {
        test_skip("an emulator does not pass a limit of address space on");
    }
    spec.capacity = 1 << 16;
    rig_open(&rig, &spec);
    const uint64_t area = rig.segment.geometry.area_len;
    rig_fill(rig.segment.data, area, 1);
    CHECK_EQ(getrlimit(RLIMIT_AS, &before), 0);
    CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
    shmipc_segment_privatize(&rig.segment);
    CHECK_EQ(setrlimit(RLIMIT_AS, &before), 0);
    CHECK(rig_matches(rig.segment.data, area, 1));
    /* The system's own word for "this cannot be written". */
    CHECK_EQ(pread(rig.segment.fd, rig.segment.data, 1, 0), -1);
    CHECK_EQ(errno, EFAULT);
    rig_close(&rig);
}

static const struct test tests[] = {
    TEST(test_segment_without_unnamed_files_has_a_temporary_name_until_it_is_published),
    TEST(test_ring_without_unnamed_files_lives_as_any_other),
    TEST(test_system_that_does_not_tell_who_holds_a_lock_is_refused),
    TEST(test_lock_outlives_its_descriptor_and_ends_with_the_handle),
    TEST(test_number_of_another_open_of_the_same_file_is_not_used),
    TEST(test_removed_file_is_told_to_both_sides_until_they_close),
    TEST(test_close_tells_of_messages_in_a_removed_file),
    TEST(test_name_dismissed_by_its_producer_alarms_nobody),
    TEST(test_c_api_tells_of_a_removed_file_and_closes_all_the_same),
    TEST(test_producer_refuses_a_file_of_another_user),
    TEST(test_file_of_ones_own_gets_the_mode_asked_for_and_never_keeps_a_wider_one),
    TEST(test_last_consumer_of_a_dead_producer_removes_the_file_unless_it_owes),
    TEST(test_private_copy_shows_nothing_that_is_written_later),
    TEST(test_private_copy_needs_no_second_mapping_of_itself),
    TEST(test_data_that_cannot_be_copied_become_read_only),
};

int main(int argc, char **argv)
{
    test_gate_init(&ready);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
