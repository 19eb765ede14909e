// Producer.cs: the one writer of a ring. See Shmipc.cs.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;

namespace Shmipc
{
    public sealed unsafe class Producer : IDisposable
    {
        private readonly ProducerHandle handle;
        private readonly object writing = new object(); // held while a Writer is in the ring
        private bool closed;                             // under that lock
        private Gate gate;
        private readonly RingInfo info;

        // Create the ring `name`, or take it over where a producer that is gone stopped.
        public Producer(string name, ProducerOptions options = null)
        {
            options = options ?? new ProducerOptions();
            NativeProducerOptions native;
            Native.shmipc_producer_options_init(out native);
            ulong[] shape = Arguments.Shape(options.Shape);
            native.Axes = shape == null ? 0 : (uint)shape.Length;
            native.MaxConsumers = Arguments.NotNegative("MaxConsumers", options.MaxConsumers);
            native.ItemSize = Arguments.NotNegative("ItemSize", options.ItemSize);
            native.Capacity = options.Capacity < 0 ? ulong.MaxValue : (ulong)options.Capacity;
            native.SpinNs = Times.Spin(options.Spin);
            native.Overflow = (uint)options.Overflow;
            native.Mode = Arguments.NotNegative("Mode", options.Mode);
            fixed (byte* dtype = Native.Utf8(options.Dtype))
            fixed (ulong* extents = shape)
            {
                native.Dtype = dtype;
                native.Shape = extents;
                Errors.Check(
                    Native.shmipc_producer_open_holding(
                        out handle, Native.Utf8(name), ref native,
                        Arguments.NotNegative("HoldFor", options.HoldFor)));
            }
            NativeInfo found;
            Errors.Check(Native.shmipc_producer_info(handle, out found));
            info = new RingInfo(found);
        }

        public RingInfo Info { get { return info; } }

        public ProducerStats Stats
        {
            get
            {
                ProducerStats stats;
                Errors.Check(Native.shmipc_producer_stats(Use(), out stats));
                return stats;
            }
        }

        // ---- copying in

        // One message, or the bytes of one item (whose kind and flags are 0).
        public void Send(ReadOnlySpan<byte> data, int kind = 1, int flags = 0,
                         TimeSpan? timeout = null)
        {
            Errors.Check(SendNative(data, kind, flags, Times.Nanoseconds(timeout)));
        }

        // False: there is no room now.
        public bool TrySend(ReadOnlySpan<byte> data, int kind = 1, int flags = 0)
        {
            int result = SendNative(data, kind, flags, 0);
            if (result != (int)Result.Full)
            {
                Errors.Check(result);
            }
            return result == 0;
        }

        // One item of a typed ring.
        public void SendItem<T>(T item, TimeSpan? timeout = null) where T : struct
        {
            Send(MemoryMarshal.AsBytes(MemoryMarshal.CreateReadOnlySpan(ref item, 1)), 0, 0,
                 timeout);
        }

        // Items of a typed ring, in as few commits as the room allows. FullException.Sent says how
        // many went in before the timeout.
        public void SendItems<T>(ReadOnlySpan<T> items, TimeSpan? timeout = null) where T : struct
        {
            if (Blittable<T>.Size != info.ItemSize)
            {
                throw new MismatchException("items of " + info.ItemSize + " bytes cannot be sent " +
                                            "as " + typeof(T));
            }
            SendBytes(MemoryMarshal.AsBytes(items), timeout);
        }

        // The bytes of items that lie one after the other.
        public void SendBytes(ReadOnlySpan<byte> items, TimeSpan? timeout = null)
        {
            if (info.ItemSize == 0 || items.Length % info.ItemSize != 0)
            {
                throw new InvalidException(items.Length + " bytes are no items of " +
                                           info.ItemSize);
            }
            gate.Enter("producer");
            try
            {
                ulong sent;
                fixed (byte* at = &MemoryMarshal.GetReference(items))
                {
                    int result = Native.shmipc_producer_send_n(
                        Use(), at, (ulong)(items.Length / info.ItemSize),
                        Times.Nanoseconds(timeout), out sent);
                    Errors.Check(result, sent);
                }
            }
            finally
            {
                gate.Leave();
            }
        }

        // Messages, in as few commits as the room allows.
        public void SendMany(IReadOnlyList<OwnedMessage> messages, TimeSpan? timeout = null)
        {
            var views = new NativeView[messages.Count];
            var pins = new GCHandle[messages.Count];
            gate.Enter("producer");
            try
            {
                for (int i = 0; i < views.Length; i++)
                {
                    pins[i] = GCHandle.Alloc(messages[i].Data, GCHandleType.Pinned);
                    views[i].Data = (byte*)pins[i].AddrOfPinnedObject();
                    views[i].Len = (ulong)messages[i].Data.Length;
                    views[i].Count = 1;
                    views[i].Kind = U16("kind", messages[i].Kind);
                    views[i].Flags = U16("flags", messages[i].Flags);
                }
                fixed (NativeView* first = views)
                {
                    UIntPtr sent;
                    int result = Native.shmipc_producer_send_messages(
                        Use(), first, (UIntPtr)views.Length, Times.Nanoseconds(timeout), out sent);
                    Errors.Check(result, (ulong)sent);
                }
            }
            finally
            {
                gate.Leave();
                foreach (GCHandle pin in pins)
                {
                    if (pin.IsAllocated)
                    {
                        pin.Free();
                    }
                }
            }
        }

        // ---- writing in place

        // A message of up to `len` bytes: `write` fills the room and returns how many it used. An
        // exception in it sends nothing.
        public void Reserve(int len, Writer write, int kind = 1, int flags = 0,
                            TimeSpan? timeout = null)
        {
            gate.Enter("producer");
            try
            {
                byte* room;
                Arguments.NotNegative("len", len);
                Errors.Check(Native.shmipc_producer_reserve(
                    Use(), (UIntPtr)len, Times.Nanoseconds(timeout), out room));
                int used = Fill(write, room, len);
                CommitOrAbort(Native.shmipc_producer_commit(handle, (UIntPtr)used, (uint)kind,
                                                            (uint)flags));
            }
            finally
            {
                gate.Leave();
            }
        }

        // Up to `count` items of a typed ring, Info.ItemStride apart.
        public void ReserveItems(int count, Writer write, TimeSpan? timeout = null)
        {
            gate.Enter("producer");
            try
            {
                byte* room;
                Arguments.NotNegative("count", count);
                Errors.Check(Native.shmipc_producer_reserve_n(
                    Use(), (ulong)count, Times.Nanoseconds(timeout), out room));
                int used = Fill(write, room, checked(count * info.ItemStride));
                CommitOrAbort(Native.shmipc_producer_commit_n(handle, (ulong)used));
            }
            finally
            {
                gate.Leave();
            }
        }

        private int Fill(Writer write, byte* room, int len)
        {
            bool held = false;
            bool done = false;
            handle.DangerousAddRef(ref held);
            try
            {
                lock (writing) // Close waits for it
                {
                    Errors.CheckOpen(!closed, info.Name);
                    int used = write(new Span<byte>(room, len));
                    Arguments.NotNegative("what the writer returned", used);
                    done = true;
                    return used;
                }
            }
            finally
            {
                if (!done)
                {
                    Native.shmipc_producer_abort(handle);
                }
                handle.DangerousRelease();
            }
        }


        private void CommitOrAbort(int result)
        {
            if (result != 0)
            {
                ShmipcException error = Errors.Of(result);
                Native.shmipc_producer_abort(handle);
                throw error;
            }
        }

        // ---- the rest

        // NotFoundException after the timeout.
        public void WaitForConsumers(int count, TimeSpan? timeout = null)
        {
            Errors.Check(Native.shmipc_producer_wait_for_consumers(
                Use(), Arguments.NotNegative("count", count), Times.Nanoseconds(timeout)));
        }

        // Remove the ring's name now; who is attached goes on.
        public void Unlink()
        {
            Errors.Check(Native.shmipc_producer_unlink(Use()));
        }

        // Any thread: end the wait that is going on, or the next.
        public void Interrupt()
        {
            Errors.Check(Native.shmipc_producer_interrupt(Use()));
        }

        // End the stream: consumers read what is committed, then get a ClosedException. Any thread.
        public void Close()
        {
            if (Monitor.IsEntered(writing))
            {
                throw new MisuseException("close from inside a Writer");
            }
            lock (writing)
            {
                int result = Native.shmipc_producer_close(Use());
                closed = closed || result == (int)Result.Success || result == (int)Result.Removed;
                Errors.Check(result);
            }
        }

        public void Dispose()
        {
            if (!handle.IsClosed)
            {
                try
                {
                    Close();
                }
                finally
                {
                    handle.Dispose();
                }
            }
        }

        private ProducerHandle Use()
        {
            if (handle.IsClosed)
            {
                throw new ObjectDisposedException("producer of " + info.Name);
            }
            return handle;
        }

        private int SendNative(ReadOnlySpan<byte> data, int kind, int flags, long timeoutNs)
        {
            gate.Enter("producer");
            try
            {
                fixed (byte* at = &MemoryMarshal.GetReference(data))
                {
                    return Native.shmipc_producer_send(Use(), at, (UIntPtr)data.Length, (uint)kind,
                                                       (uint)flags, timeoutNs);
                }
            }
            finally
            {
                gate.Leave();
            }
        }

        private static ushort U16(string what, int value)
        {
            if (value < 0 || value > ushort.MaxValue)
            {
                throw new InvalidException(what + " is " + value + ", not 0 to 65535");
            }
            return (ushort)value;
        }
    }
}
