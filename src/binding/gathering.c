/*
 * gathering.c: runs of like messages into a batch: the loop that on_batch lives in.
 *
 * It does what gather() in dispatching.c does, for the common case and in fewer steps: a message
 * ring that blocks, and messages of one kind in a row. Whatever is otherwise it leaves where it is,
 * for gather() to deal with.
 */
#include "dispatcher.h"
#include "module.h"

uint64_t subscription_gather_alike(struct subscription *source, struct handler *handler,
                                   uint64_t most)
{
    struct shmipc_ring_consumer *core = &source->consumer->core.ring;
    const size_t len = handler->len;
    const uint16_t odd_flags = source->place >= 0 ? TARGETED_FLAG : 0;
    const uint64_t room = handler->batch_room - handler->batch_count;
    unsigned char *to = handler->batch_data + handler->batch_count * len;
    uint64_t count = 0;
    if (source->scratch != NULL || core->ring.item_stride != 0) {
        return 0;
    }
    most = most < room ? most : room;
    Py_BEGIN_CRITICAL_SECTION(source->consumer);
    while (count < most && core->read_pos != core->head_pos_cached) {
        struct shmipc_message message;
        if (shmipc_message_decode(&core->ring, core->read_pos,
                                  core->head_pos_cached - core->read_pos, &message) != SHMIPC_OK ||
            message.kind != handler->kind || message.len != len ||
            (message.flags & odd_flags) != 0 ||
            !subscription_chose(source, handler, message.data)) {
            break;
        }
        if (len == 64) { /* the usual lengths: a few instructions each */
            memcpy(to, message.data, 64);
        } else if (len == 128) {
            memcpy(to, message.data, 128);
        } else {
            memcpy(to, message.data, len);
        }
        to += len;
        count++;
        shmipc_ring_advance(core, &message);
    }
    Py_END_CRITICAL_SECTION();
    handler->batch_count += count;
    return count;
}
