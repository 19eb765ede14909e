/* test_segment.c: names, geometry, the file's life, its mapping, locks, and fork. */
#define _GNU_SOURCE
#include "../../../src/core/segment/descriptor.h"
#include "../../../src/core/segment/locks.h"
#include "rig.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

static struct shmipc_error error;

/* ---- names ---------------------------------------------------------------------------------- */

static void test_names_are_short_plain_and_start_with_a_letter_or_digit(void)
{
    static const char *const good[] = {"a", "Z9", "0", "a.b_c-d", "x..y"};
    static const char *const bad[] = {"", ".a", "-a", "_a", "a/b", "a b", "a\n", "\xc3\xa4", "a%"};
    char longest[SHMIPC_NAME_MAX + 2];
    char path[SHMIPC_PATH_MAX];
    memset(longest, 'n', sizeof longest);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(shmipc_name_is_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!shmipc_name_is_valid(bad[i], strlen(bad[i])));
        CHECK_EQ(shmipc_segment_path(bad[i], strlen(bad[i]), path, &error), SHMIPC_INVALID);
    }
    CHECK(shmipc_name_is_valid(longest, SHMIPC_NAME_MAX));
    CHECK(!shmipc_name_is_valid(longest, SHMIPC_NAME_MAX + 1));
    CHECK(!shmipc_name_is_valid("a\0b", 3));
}

static void test_directory_is_the_environments_or_dev_shm(void)
{
    char path[SHMIPC_PATH_MAX];
    static char long_dir[SHMIPC_PATH_MAX + 1];
    memset(long_dir, 'd', sizeof long_dir - 1);
    CHECK_EQ(setenv("SHMIPC_DIR", "/some/dir", 1), 0);
    CHECK_EQ(shmipc_segment_path("name", 4, path, &error), SHMIPC_OK);
    CHECK_EQ(strcmp(path, "/some/dir/shmipc.name"), 0);
    CHECK_EQ(setenv("SHMIPC_DIR", "", 1), 0);
    CHECK_EQ(strcmp(shmipc_segment_dir(), "/dev/shm"), 0);
    CHECK_EQ(setenv("SHMIPC_DIR", long_dir, 1), 0);
    CHECK_EQ(shmipc_segment_path("name", 4, path, &error), SHMIPC_INVALID);
}

/* ---- geometry ------------------------------------------------------------------------------- */

static void test_capacity_is_rounded_up_never_down(void)
{
    static const uint64_t item_lens[] = {1, 3, 8, 64, 4095, 4096, 4097, 6220800};
    struct shmipc_geometry geometry;
    for (uint64_t capacity = 1; capacity < 100000; capacity = capacity * 3 + 1) {
        struct shmipc_spec spec = rig_message_spec(1);
        spec.capacity = capacity;
        shmipc_geometry_init(&geometry, &spec);
        CHECK(shmipc_capacity_of(&geometry) >= capacity);
        CHECK(geometry.area_len < 2 * capacity || geometry.area_len == geometry.data_off);
        CHECK(shmipc_geometry_fault(&geometry, geometry.data_off + geometry.area_len) == NULL);
        for (size_t i = 0; i < sizeof item_lens / sizeof *item_lens; i++) {
            spec = rig_typed_spec(7, item_lens[i], capacity);
            shmipc_geometry_init(&geometry, &spec);
            CHECK(shmipc_capacity_of(&geometry) >= capacity);
            CHECK(geometry.item_stride >= item_lens[i]);
            CHECK(item_lens[i] < 4096 || geometry.item_stride % 64 == 0);
            CHECK(shmipc_geometry_fault(&geometry, geometry.data_off + geometry.area_len) == NULL);
        }
    }
}

static void test_default_capacity_holds_at_least_four_items(void)
{
    struct shmipc_geometry geometry;
    struct shmipc_spec spec = rig_typed_spec(1, 6220800, 0);
    shmipc_geometry_init(&geometry, &spec);
    CHECK(shmipc_capacity_of(&geometry) >= 4);
    spec = rig_message_spec(1);
    spec.capacity = 0;
    CHECK_EQ(shmipc_area_len_for(&spec), 1 << 20);
}

static void test_impossible_capacities_are_refused_without_overflow(void)
{
    static const uint64_t absurd[] = {UINT64_MAX, UINT64_MAX / 2, SHMIPC_MAX_AREA_LEN + 1};
    struct shmipc_segment segment;
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
        struct shmipc_spec messages = rig_message_spec(1);
        struct shmipc_spec items = rig_typed_spec(1, 24, absurd[i]);
        struct shmipc_spec item = rig_typed_spec(1, absurd[i], 1);
        messages.capacity = absurd[i];
        CHECK_EQ(shmipc_area_len_for(&messages), 0);
        CHECK_EQ(shmipc_area_len_for(&items), 0);
        CHECK_EQ(shmipc_area_len_for(&item), 0);
        CHECK_EQ(shmipc_segment_create(&segment, test_path("x"), &messages, &error),
                 SHMIPC_INVALID);
    }
}

/* ---- creation ------------------------------------------------------------------------------- */

static void test_segment_has_no_name_before_it_is_published(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment first;
    struct shmipc_segment second;
    const char *path = test_path("x");
    CHECK_EQ(shmipc_segment_create(&first, path, &spec, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_create(&second, path, &spec, &error), SHMIPC_OK);
    CHECK(!test_exists(path));
    CHECK_EQ(shmipc_segment_publish(&first, &error), SHMIPC_OK);
    CHECK(shmipc_segment_is_named(&first));
    CHECK_EQ(shmipc_segment_publish(&second, &error), SHMIPC_BUSY);
    CHECK(!shmipc_segment_is_named(&second));
    (void)shmipc_segment_unlink(&second); /* not its name: stays */
    CHECK(test_exists(path));
    (void)shmipc_segment_unlink(&first);
    CHECK(!test_exists(path));
    shmipc_segment_close(&first);
    shmipc_segment_close(&second);
    shmipc_segment_close(&second);
}

static void test_file_has_the_mode_asked_for_and_all_its_blocks(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment segment;
    struct stat status;
    (void)umask(077);
    spec.mode = 0644;
    spec.capacity = 100000;
    CHECK_EQ(shmipc_segment_create(&segment, test_path("x"), &spec, &error), SHMIPC_OK);
    CHECK_EQ(fstat(segment.fd, &status), 0);
    CHECK_EQ(status.st_mode & 0777, 0644);
    CHECK_EQ(status.st_size, segment.geometry.data_off + segment.geometry.area_len);
    CHECK((uint64_t)status.st_blocks * 512 >= (uint64_t)status.st_size);
    CHECK_EQ(fcntl(segment.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    shmipc_segment_close(&segment);
}

static void test_full_directory_is_enospc_that_says_what_to_do(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment segment;
    struct statvfs space;
    const char *path = test_path("x");
    CHECK_EQ(statvfs(getenv("SHMIPC_DIR"), &space), 0);
    spec.capacity = (uint64_t)space.f_blocks * (uint64_t)space.f_frsize;
    if (spec.capacity == 0 || spec.capacity > SHMIPC_MAX_AREA_LEN / 2) {
        return; /* a file system without a limit cannot be filled */
    }
    CHECK_EQ(shmipc_segment_create(&segment, path, &spec, &error), SHMIPC_OS);
    CHECK_EQ(error.os_error, 28); /* ENOSPC */
    CHECK(strstr(error.text, getenv("SHMIPC_DIR")) != NULL);
    CHECK(strstr(error.text, "--shm-size") != NULL);
    CHECK_EQ(segment.fd, -1);
    CHECK(!test_exists(path));
}

static void test_missing_directory_is_told_from_a_missing_ring(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment segment;
    CHECK_EQ(shmipc_segment_open(&segment, test_path("x"), &error), SHMIPC_NOT_FOUND);
    CHECK_EQ(setenv("SHMIPC_DIR", "/nonexistent", 1), 0);
    CHECK_EQ(shmipc_segment_open(&segment, test_path("x"), &error), SHMIPC_NOT_FOUND);
    CHECK(strstr(error.text, "/nonexistent") != NULL);
    CHECK_EQ(shmipc_segment_create(&segment, test_path("x"), &spec, &error), SHMIPC_OS);
}

static void test_closing_a_closed_segment_leaves_other_descriptors_alone(void)
{
    struct shmipc_segment segment;
    CHECK_EQ(shmipc_segment_open(&segment, test_path("x"), &error), SHMIPC_NOT_FOUND);
    const int before = fcntl(0, F_GETFD);
    shmipc_segment_close(&segment);
    shmipc_segment_close(&segment);
    memset(&segment, 0, sizeof segment);
    shmipc_segment_close(&segment); /* "safe on a zeroed struct": 0 is nobody's descriptor */
    CHECK_EQ(fcntl(0, F_GETFD), before);
}

/* ---- validation ----------------------------------------------------------------------------- */

static void put_file(const char *path, const void *bytes, size_t len)
{
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, len), len);
    CHECK_EQ(close(fd), 0);
}

static void test_what_is_no_segment_is_corrupt_and_links_are_not_followed(void)
{
    struct shmipc_segment segment;
    static char zeros[8192];
    char link_path[SHMIPC_PATH_MAX];
    (void)snprintf(link_path, sizeof link_path, "%s", test_path("link"));
    const char *path = test_path("x");
    for (size_t len = 0; len <= sizeof zeros; len += 48) {
        put_file(path, zeros, len);
        CHECK_EQ(shmipc_segment_open(&segment, path, &error), SHMIPC_CORRUPT);
        CHECK_EQ(segment.fd, -1);
    }
    CHECK_EQ(symlink(path, link_path), 0);
    CHECK_EQ(shmipc_segment_open(&segment, link_path, &error), SHMIPC_OS);
    CHECK_EQ(unlink(link_path), 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(mkfifo(path, 0600), 0); /* must not block */
    CHECK_EQ(shmipc_segment_open(&segment, path, &error), SHMIPC_CORRUPT);
    CHECK_EQ(unlink(path), 0);
}

/* Fields whose change cannot be seen from the geometry alone: what they say is checked later, or
 * harms nobody. */
static bool may_change(const struct shmipc_spec *spec, size_t byte)
{
    if (byte >= offsetof(struct shmipc_geometry, origin_pos) ||
        (byte >= offsetof(struct shmipc_geometry, schema_hash) &&
         byte < offsetof(struct shmipc_geometry, item_len))) {
        return true;
    }
    if (byte / 2 == offsetof(struct shmipc_geometry, schema_len) / 2) {
        return true; /* within its page: the hash tells */
    }
    /* an item may be up to its padding longer or shorter */
    return spec->item_len >= 4096 && byte == offsetof(struct shmipc_geometry, item_len);
}

static void check_every_byte(const struct shmipc_spec *spec)
{
    static const unsigned char flips[] = {0x01, 0x02, 0x80, 0xff};
    struct shmipc_segment segment;
    struct rig rig;
    const char *path = test_path("rig");
    rig_open(&rig, spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    for (size_t byte = 0; byte < sizeof(struct shmipc_geometry); byte++) {
        for (size_t i = 0; i < sizeof flips; i++) {
            const unsigned char good = rig.segment.base[byte];
            rig.segment.base[byte] = good ^ flips[i];
            const enum shmipc_status status = shmipc_segment_open(&segment, path, &error);
            if (status == SHMIPC_OK) {
                /* mapping and looking around must still be safe */
                struct shmipc_ring_consumer consumer;
                struct shmipc_message message;
                char schema[SHMIPC_MAX_SCHEMA_LEN];
                CHECK_EQ(shmipc_segment_map(&segment, false, &error), SHMIPC_OK);
                (void)shmipc_segment_read_schema(&segment, schema, &error);
                memset(&consumer, 0, sizeof consumer);
                shmipc_ring_attach(&consumer.map, &segment);
                if (shmipc_ring_join(&consumer, 0, SHMIPC_START_EARLIEST) == SHMIPC_OK) {
                    (void)shmipc_ring_peek(&consumer, &message);
                    shmipc_ring_leave(&consumer.map, 0);
                }
                shmipc_segment_close(&segment);
            }
            const bool block_to_overwrite = byte == offsetof(struct shmipc_geometry, overflow) &&
                                            (good ^ flips[i]) == SHMIPC_OVERFLOW_OVERWRITE;
            if (status != SHMIPC_CORRUPT && !may_change(spec, byte) && !block_to_overwrite) {
                test_fail(__FILE__, __LINE__, "byte %zu ^ 0x%02x gave status %d", byte, flips[i],
                          (int)status);
            }
            rig.segment.base[byte] = good;
        }
    }
    CHECK_EQ(shmipc_segment_open(&segment, path, &error), SHMIPC_OK);
    shmipc_segment_close(&segment);
    (void)shmipc_segment_unlink(&rig.segment);
    rig_close(&rig);
}

static void test_every_damaged_byte_of_the_geometry_is_noticed_or_harmless(void)
{
    struct shmipc_spec specs[] = {rig_message_spec(1), rig_message_spec(5),
                                  rig_typed_spec(1, 24, 16), rig_typed_spec(3, 5000, 4)};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        check_every_byte(&specs[i]);
    }
}

static void test_file_of_another_length_is_corrupt(void)
{
    struct shmipc_spec spec = rig_typed_spec(2, 24, 16);
    struct shmipc_segment segment;
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    const off_t whole = (off_t)(rig.segment.geometry.data_off + rig.segment.geometry.area_len);
    const off_t lens[] = {0, 50, 96, 4096, whole - 1, whole + 1, 2 * whole};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        CHECK_EQ(ftruncate(rig.segment.fd, lens[i]), 0);
        CHECK_EQ(shmipc_segment_open(&segment, rig.segment.path, &error), SHMIPC_CORRUPT);
    }
    (void)shmipc_segment_unlink(&rig.segment);
    rig_close(&rig);
}

/* Reading a hole takes memory that nobody reserved, and is a SIGBUS where there is none. */
static void test_file_with_holes_is_corrupt_on_a_tmpfs(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment segment;
    struct statfs filesystem;
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(fstatfs(rig.segment.fd, &filesystem), 0);
    if (filesystem.f_type != TMPFS_MAGIC) {
        rig_close(&rig);
        test_skip("no tmpfs here");
    }
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_open(&segment, rig.segment.path, &error), SHMIPC_OK);
    shmipc_segment_close(&segment);
    CHECK_EQ(fallocate(rig.segment.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       (off_t)rig.segment.geometry.data_off, 4096),
             0);
    CHECK_EQ(shmipc_segment_open(&segment, rig.segment.path, &error), SHMIPC_CORRUPT);
    CHECK(strstr(error.text, "holes") != NULL);
    (void)shmipc_segment_unlink(&rig.segment);
    rig_close(&rig);
}

static void test_schema_is_read_back_and_its_damage_noticed(void)
{
    struct shmipc_spec spec = rig_typed_spec(3, 24, 16);
    struct rig rig;
    char schema[6];
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_read_schema(&rig.segment, schema, &error), SHMIPC_OK);
    CHECK_EQ(memcmp(schema, "schema", 6), 0);
    rig.segment.base[rig.segment.geometry.schema_off] ^= 1;
    CHECK_EQ(shmipc_segment_read_schema(&rig.segment, schema, &error), SHMIPC_CORRUPT);
    rig_close(&rig);
}

/* ---- mapping -------------------------------------------------------------------------------- */

static void test_data_area_is_mapped_twice_back_to_back(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct rig rig;
    spec.capacity = 64 * 1024;
    rig_open(&rig, &spec);
    const uint64_t area = rig.segment.geometry.area_len;
    rig_fill(rig.segment.data, area, 9);
    CHECK(rig_matches(rig.segment.data + area, area, 9));
    rig_fill(rig.segment.data + area, area, 10);
    CHECK(rig_matches(rig.segment.data, area, 10));
    rig_close(&rig);
}

static void test_private_data_keeps_its_bytes_and_reaches_nobody(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment other;
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_map(&other, false, &error), SHMIPC_OK);
    const uint64_t area = rig.segment.geometry.area_len;
    rig_fill(rig.segment.data, area, 1);
    shmipc_segment_privatize(&rig.segment);
    CHECK(rig_matches(rig.segment.data, area, 1));
    rig_fill(rig.segment.data, area, 2);
    CHECK(rig_matches(other.data, area, 1));
    (void)shmipc_segment_unlink(&other);
    shmipc_segment_detach(&rig.segment);
    CHECK(rig_matches(rig.segment.data, area, 2));
    shmipc_segment_close(&other);
    rig_close(&rig);
}

/* ---- locks and fork ------------------------------------------------------------------------- */

static void test_locks_exclude_other_opens_of_the_same_process(void)
{
    struct shmipc_spec spec = rig_message_spec(4);
    struct shmipc_segment other;
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK(shmipc_lock_try(&rig.segment, SHMIPC_LOCK_PRODUCER));
    CHECK(shmipc_lock_try(&rig.segment, SHMIPC_LOCK_PRODUCER)); /* ours already */
    CHECK(!shmipc_lock_try(&other, SHMIPC_LOCK_PRODUCER));
    CHECK(shmipc_lock_try(&other, SHMIPC_LOCK_SLOT0 + 3));
    CHECK(shmipc_lock_is_held(&other, SHMIPC_LOCK_PRODUCER, 1));
    CHECK(!shmipc_lock_is_held(&rig.segment, SHMIPC_LOCK_PRODUCER, 1)); /* only others count */
    CHECK(shmipc_segment_is_shared(&rig.segment));
    CHECK(!shmipc_lock_is_held(&rig.segment, SHMIPC_LOCK_SLOT0, 3));
    CHECK(shmipc_lock_is_held(&rig.segment, SHMIPC_LOCK_SLOT0, 4));
    shmipc_lock_drop(&rig.segment, SHMIPC_LOCK_PRODUCER);
    CHECK(shmipc_lock_try(&other, SHMIPC_LOCK_PRODUCER));
    shmipc_segment_detach(&other); /* the last descriptor takes the locks with it */
    CHECK(!shmipc_segment_is_shared(&rig.segment));
    /* and closing another descriptor of the file drops nobody's lock, as POSIX locks would */
    CHECK(shmipc_lock_try(&rig.segment, SHMIPC_LOCK_PRODUCER));
    CHECK_EQ(close(open(rig.segment.path, O_RDWR)), 0);
    shmipc_segment_close(&other);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK(!shmipc_lock_try(&other, SHMIPC_LOCK_PRODUCER));
    (void)shmipc_segment_unlink(&other);
    shmipc_segment_close(&other);
    rig_close(&rig);
}

static void test_gate_gives_up_on_a_holder_that_never_leaves(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment other;
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_gate_enter(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_gate_enter(&other, &error), SHMIPC_BUSY);
    CHECK(strstr(error.text, "SIGSTOP") != NULL);
    shmipc_gate_leave(&rig.segment);
    CHECK_EQ(shmipc_gate_enter(&other, &error), SHMIPC_OK);
    shmipc_gate_leave(&other);
    (void)shmipc_segment_unlink(&other);
    shmipc_segment_close(&other);
    rig_close(&rig);
}

static void check_child_handle(void *argument)
{
    struct rig *rig = argument;
    CHECK(rig->segment.forked);
    CHECK_EQ(rig->segment.fd, -1);
    CHECK(rig->segment.data[0] == 7); /* views of the parent's stay readable */
    rig_close(rig);
    pause();
}

static void test_forked_child_neither_has_the_handle_nor_keeps_its_locks(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_segment other;
    struct rig rig;
    rig_open(&rig, &spec);
    rig.segment.data[0] = 7;
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK(shmipc_lock_try(&rig.segment, SHMIPC_LOCK_PRODUCER));
    const pid_t child = test_fork(check_child_handle, &rig);
    CHECK(!rig.segment.forked);
    CHECK_EQ(shmipc_segment_open(&other, rig.segment.path, &error), SHMIPC_OK);
    CHECK(!shmipc_lock_try(&other, SHMIPC_LOCK_PRODUCER));
    rig_close(&rig);
    for (int i = 0; i < 1000 && !shmipc_lock_try(&other, SHMIPC_LOCK_PRODUCER); i++) {
        (void)usleep(10000); /* until the child's fork handler has run */
    }
    CHECK(shmipc_lock_try(&other, SHMIPC_LOCK_PRODUCER));
    (void)shmipc_segment_unlink(&other);
    shmipc_segment_close(&other);
    test_kill(child);
}

static const struct test tests[] = {
    TEST(test_names_are_short_plain_and_start_with_a_letter_or_digit),
    TEST(test_directory_is_the_environments_or_dev_shm),
    TEST(test_capacity_is_rounded_up_never_down),
    TEST(test_default_capacity_holds_at_least_four_items),
    TEST(test_impossible_capacities_are_refused_without_overflow),
    TEST(test_segment_has_no_name_before_it_is_published),
    TEST(test_file_has_the_mode_asked_for_and_all_its_blocks),
    TEST(test_full_directory_is_enospc_that_says_what_to_do),
    TEST(test_missing_directory_is_told_from_a_missing_ring),
    TEST(test_closing_a_closed_segment_leaves_other_descriptors_alone),
    TEST(test_what_is_no_segment_is_corrupt_and_links_are_not_followed),
    TEST(test_every_damaged_byte_of_the_geometry_is_noticed_or_harmless),
    TEST(test_file_of_another_length_is_corrupt),
    TEST(test_file_with_holes_is_corrupt_on_a_tmpfs),
    TEST(test_schema_is_read_back_and_its_damage_noticed),
    TEST(test_data_area_is_mapped_twice_back_to_back),
    TEST(test_private_data_keeps_its_bytes_and_reaches_nobody),
    TEST(test_locks_exclude_other_opens_of_the_same_process),
    TEST(test_gate_gives_up_on_a_holder_that_never_leaves),
    TEST(test_forked_child_neither_has_the_handle_nor_keeps_its_locks),
};

TEST_MAIN(tests)
