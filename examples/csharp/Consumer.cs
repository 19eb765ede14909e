// Consumer.cs: one reader of a ring, and the frames that it keeps. See Shmipc.cs.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;

namespace Shmipc
{
    public sealed unsafe class Consumer : IDisposable
    {
        private readonly ConsumerHandle handle;
        private readonly object reading = new object(); // held while a Reader is in the ring
        private bool closed;                             // under that lock
        private Gate gate;
        private readonly RingInfo info;
        private byte[] buffer = new byte[256];

        // Attach to the ring `name`, waiting for it to exist.
        public Consumer(string name, ConsumerOptions options = null)
        {
            options = options ?? new ConsumerOptions();
            NativeConsumerOptions native;
            Native.shmipc_consumer_options_init(out native);
            ulong[] shape = Arguments.Shape(options.Shape);
            native.Axes = shape == null ? 0 : (uint)shape.Length;
            native.Start = (uint)options.Start;
            native.ItemSize = Arguments.NotNegative("ItemSize", options.ItemSize);
            native.TimeoutNs = Times.Nanoseconds(options.Timeout);
            native.SpinNs = Times.Spin(options.Spin);
            fixed (byte* dtype = Native.Utf8(options.Dtype))
            fixed (ulong* extents = shape)
            {
                native.Dtype = dtype;
                native.Shape = extents;
                Errors.Check(
                    Native.shmipc_consumer_open(out handle, Native.Utf8(name), ref native));
            }
            NativeInfo found;
            Errors.Check(Native.shmipc_consumer_info(handle, out found));
            info = new RingInfo(found);
        }

        public RingInfo Info { get { return info; } }

        public ConsumerStats Stats
        {
            get
            {
                ConsumerStats stats;
                Errors.Check(Native.shmipc_consumer_stats(Use(), out stats));
                return stats;
            }
        }

        // ---- copying out

        // The next message, or item, as a copy.
        public OwnedMessage Recv(TimeSpan? timeout = null)
        {
            NativeView view;
            gate.Enter("consumer");
            try
            {
                Errors.Check(RecvNative(out view, Times.Nanoseconds(timeout)));
                return new OwnedMessage(buffer.AsSpan(0, (int)view.Len).ToArray(), view.Kind,
                                        view.Flags, (long)view.Seq);
            }
            finally
            {
                gate.Leave();
            }
        }

        // False: there is nothing to read now.
        public bool TryRecv(out OwnedMessage message)
        {
            message = null;
            try
            {
                message = Recv(TimeSpan.Zero);
                return true;
            }
            catch (EmptyException)
            {
                return false;
            }
        }

        // One item of a typed ring.
        public T RecvItem<T>(TimeSpan? timeout = null) where T : struct
        {
            if (Blittable<T>.Size != info.ItemSize)
            {
                throw new MismatchException("items of " + info.ItemSize + " bytes are no " +
                                            typeof(T));
            }
            NativeView view;
            gate.Enter("consumer");
            try
            {
                Errors.Check(RecvNative(out view, Times.Nanoseconds(timeout)));
                return MemoryMarshal.Read<T>(buffer);
            }
            finally
            {
                gate.Leave();
            }
        }

        private int RecvNative(out NativeView view, long timeoutNs)
        {
            for (;;)
            {
                fixed (byte* at = buffer)
                {
                    int result = Native.shmipc_consumer_recv(
                        Use(), at, (UIntPtr)buffer.Length, out view, timeoutNs);
                    if (result != (int)Result.TooLarge)
                    {
                        return result;
                    }
                }
                buffer = new byte[checked((int)view.Len)]; // it stays unread: again, with room
            }
        }

        // ---- looking at it in place

        // Show `read` the next message or item, then give it back; an exception in `read` leaves it
        // unread. False: there was nothing. With Overflow.Overwrite, an OverrunException afterwards
        // says that what was shown is to be discarded.
        public bool Peek(Reader read)
        {
            return PeekNative(read, 0);
        }

        // The items that are ready, up to `max`, as one message.
        public bool PeekItems(int max, Reader read)
        {
            if (max <= 0)
            {
                throw new InvalidException("max is " + max);
            }
            return PeekNative(read, max);
        }

        private bool PeekNative(Reader read, int max)
        {
            gate.Enter("consumer");
            try
            {
                NativeView view;
                int result = max == 0 ? Native.shmipc_consumer_peek(Use(), out view)
                                      : Native.shmipc_consumer_peek_n(Use(), (ulong)max, out view);
                if (result == (int)Result.Empty)
                {
                    return false;
                }
                Errors.Check(result);
                Show(read, &view, 1);
                Errors.Check(Native.shmipc_consumer_release(handle));
                return true;
            }
            finally
            {
                gate.Leave();
            }
        }

        // Show `read` the messages that are ready, up to `max`, one after the other, then give them
        // back together. How many there were.
        public int PeekMessages(int max, Reader read)
        {
            if (max <= 0)
            {
                throw new InvalidException("max is " + max);
            }
            gate.Enter("consumer");
            try
            {
                var views = new NativeView[max];
                fixed (NativeView* first = views)
                {
                    UIntPtr count;
                    int result = Native.shmipc_consumer_peek_messages(Use(), first, (UIntPtr)max,
                                                                      out count);
                    if (result == (int)Result.Empty)
                    {
                        return 0;
                    }
                    Errors.Check(result);
                    Show(read, first, (int)count);
                    Errors.Check(Native.shmipc_consumer_release_n(handle, (ulong)count));
                    return (int)count;
                }
            }
            finally
            {
                gate.Leave();
            }
        }

        private void Show(Reader read, NativeView* views, int count)
        {
            bool held = false;
            bool shown = false;
            handle.DangerousAddRef(ref held);
            try
            {
                lock (reading) // Close waits for it
                {
                    Errors.CheckOpen(!closed, info.Name);
                    for (int i = 0; i < count; i++)
                    {
                        read(new Message(views[i]));
                    }
                    shown = true;
                }
            }
            finally
            {
                if (!shown)
                {
                    Native.shmipc_consumer_release_n(handle, 0); // all of it stays unread
                }
                handle.DangerousRelease();
            }
        }

        // ---- keeping it

        // The next message or item, in place, until the frame is disposed.
        public Frame Read(TimeSpan? timeout = null)
        {
            gate.Enter("consumer");
            try
            {
                FrameHandle frame;
                Errors.Check(Native.shmipc_consumer_read(Use(), out frame,
                                                         Times.Nanoseconds(timeout)));
                return new Frame(frame);
            }
            finally
            {
                gate.Leave();
            }
        }

        // The items of a typed ring that are ready, up to `max`.
        public Frame ReadItems(int max, TimeSpan? timeout = null)
        {
            gate.Enter("consumer");
            try
            {
                FrameHandle frame;
                Errors.Check(Native.shmipc_consumer_read_n(
                    Use(), Arguments.NotNegative("max", max), out frame,
                    Times.Nanoseconds(timeout)));
                return new Frame(frame);
            }
            finally
            {
                gate.Leave();
            }
        }

        // ---- waiting, and the end

        // Until there is something to read; EmptyException after the timeout.
        public void Wait(TimeSpan? timeout = null)
        {
            gate.Enter("consumer");
            try
            {
                Errors.Check(Native.shmipc_consumer_wait(Use(), Times.Nanoseconds(timeout)));
            }
            finally
            {
                gate.Leave();
            }
        }

        // Until a live producer holds the ring: after ProducerDiedException or the end, for its
        // successor. NotFoundException after the timeout.
        public void WaitForProducer(TimeSpan? timeout = null)
        {
            gate.Enter("consumer");
            try
            {
                Errors.Check(Native.shmipc_consumer_wait_for_producer(
                    Use(), Times.Nanoseconds(timeout)));
            }
            finally
            {
                gate.Leave();
            }
        }

        // Until any of them has something to read, or an end to tell; those that have.
        public static List<Consumer> WaitAny(IReadOnlyList<Consumer> consumers,
                                             TimeSpan? timeout = null)
        {
            var handles = new IntPtr[consumers.Count];
            var ready = new byte[consumers.Count];
            int held = 0;
            try
            {
                for (; held < handles.Length; held++)
                {
                    bool added = false;
                    consumers[held].Use().DangerousAddRef(ref added);
                    handles[held] = consumers[held].handle.DangerousGetHandle();
                }
                Errors.Check(Native.shmipc_wait(handles, (UIntPtr)handles.Length, ready,
                                                Times.Nanoseconds(timeout)));
            }
            finally
            {
                while (held > 0)
                {
                    consumers[--held].handle.DangerousRelease();
                }
            }
            var found = new List<Consumer>();
            for (int i = 0; i < ready.Length; i++)
            {
                if (ready[i] != 0)
                {
                    found.Add(consumers[i]);
                }
            }
            return found;
        }

        // Any thread: end the wait that is going on, or the next.
        public void Interrupt()
        {
            Errors.Check(Native.shmipc_consumer_interrupt(Use()));
        }

        // Leave the ring. Frames stay as they are. Any thread.
        public void Close()
        {
            if (Monitor.IsEntered(reading))
            {
                throw new MisuseException("close from inside a Reader");
            }
            lock (reading)
            {
                Errors.Check(Native.shmipc_consumer_close(Use()));
                closed = true;
            }
        }

        public void Dispose()
        {
            if (!handle.IsClosed)
            {
                Close();
                handle.Dispose();
            }
        }

        private ConsumerHandle Use()
        {
            if (handle.IsClosed)
            {
                throw new ObjectDisposedException("consumer of " + info.Name);
            }
            return handle;
        }
    }

    // A message, or items, kept in place: the ring cannot use the memory from the oldest frame on.
    // Dispose it, from any thread, before or after its consumer.
    public sealed unsafe class Frame : IDisposable
    {
        private readonly FrameHandle handle;
        private readonly NativeView view;

        internal Frame(FrameHandle handle)
        {
            this.handle = handle;
            Errors.Check(Native.shmipc_frame_view(handle, out view));
        }

        // Good until the frame is disposed: write `using (var frame = ...)`, which also keeps the
        // collector from doing so while the span is in use. View() needs no such care.
        public ReadOnlySpan<byte> Data
        {
            get { return new Message(Use()).Data; }
        }

        // As structs that are as long as an item; in place, as Data.
        public ReadOnlySpan<T> Items<T>() where T : struct
        {
            return Views.Items<T>(Use());
        }

        // The bytes of one item.
        public ReadOnlySpan<byte> Item(int index)
        {
            return Views.Item(Use(), index);
        }

        // Show it to `read`. A Dispose meanwhile, in any thread, waits until `read` is done.
        public void View(Reader read)
        {
            bool held = false;
            handle.DangerousAddRef(ref held); // ObjectDisposedException
            try
            {
                read(new Message(view));
            }
            finally
            {
                handle.DangerousRelease();
            }
        }

        public int Count { get { return (int)view.Count; } }
        public int Kind { get { return view.Kind; } }
        public int Flags { get { return view.Flags; } }
        public long Seq { get { return (long)view.Seq; } }

        // Is it still what was committed? Always, but with Overflow.Overwrite. Ask after the use.
        public bool IsIntact
        {
            get
            {
                Use();
                return Native.shmipc_frame_is_intact(handle);
            }
        }

        public void Dispose()
        {
            handle.Dispose();
        }

        private NativeView Use()
        {
            if (handle.IsClosed)
            {
                throw new ObjectDisposedException("frame " + view.Seq);
            }
            return view;
        }
    }
}
