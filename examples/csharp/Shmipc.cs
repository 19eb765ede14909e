// Shmipc.cs: messages, typed items and frames between processes through shared memory, from C#.
//
// A Producer and a Consumer of the same name are the two ends of a ring; the other end may be
// Python, C or C++. Everything here is a call of libshmipc (see Native.cs): there is no second
// implementation. Types: Producer (Producer.cs), Consumer and Frame (Consumer.cs), and here what
// they share.
//
// Lifetime. Dispose releases; the collector does so for what was forgotten, some day. A span is
// good inside the callback that got it (Peek, Reserve, Frame.View), and the compiler lets it go
// nowhere else; Frame.Data and Frame.Items are good until the frame is disposed: write `using`.
// What was disposed throws ObjectDisposedException. Frames outlive their consumer.
//
// Threads. An object serves one thread at a time; a second one gets a MisuseException. Close,
// Dispose and Interrupt may come from any thread: whoever waits inside gets a ClosedException or an
// InterruptedException.
using System;
using System.Runtime.InteropServices;
using System.Threading;

namespace Shmipc
{
    public enum Overflow
    {
        Block = 1,    // the producer waits for the slowest consumer; who has joined loses nothing
        Overwrite = 2 // the producer never waits; who is lapped goes on at the newest, and that is counted
    }

    public enum Start
    {
        Resume = 0,  // a durable queue at the first unreleased message, others at the latest
        Latest = 1,  // the next message to come
        Earliest = 2 // the oldest one retained
    }

    public sealed class ProducerOptions
    {
        public string Dtype;         // null: a message ring; else numpy's notation, "<f8" or
                                     // "[('time', '<i8'), ('price', '<f8')]"
        public long[] Shape;         // typed: extents of one item; null: one element
        public int ItemSize;         // typed: what you take for an item's size; 0: unchecked
        public long Capacity;        // items or bytes, rounded up; 0: about 1 MiB
        public int MaxConsumers = 1; // with Block, 1 is a durable queue
        public Overflow Overflow = Overflow.Block;
        public int HoldFor;          // Block: keep all from message 0 on until so many have joined
        public int Mode = 384;       // permission bits of the file: 0600
        public TimeSpan? Spin;       // to poll before sleeping; null: up to 20 us
    }

    public sealed class ConsumerOptions
    {
        public string Dtype;         // what you expect: null takes any ring, "" a message ring
        public long[] Shape;
        public int ItemSize;
        public Start Start = Start.Resume;
        public TimeSpan? Timeout;    // to wait for the ring to exist; null: for ever
        public TimeSpan? Spin;
    }

    // Facts of a ring.
    public sealed class RingInfo
    {
        internal RingInfo(NativeInfo info)
        {
            Name = Native.Text(info.Name);
            Schema = Native.Text(info.Schema);
            Capacity = (long)info.Capacity;
            ItemSize = (int)info.ItemSize;
            ItemStride = (int)info.ItemStride;
            Overflow = (Overflow)info.Overflow;
            MaxConsumers = (int)info.MaxConsumers;
            IsTyped = info.Typed != 0;
        }

        public readonly string Name, Schema; // Schema: "(dtype, shape)", "" of a message ring
        public readonly long Capacity;
        public readonly int ItemSize, ItemStride, MaxConsumers;
        public readonly Overflow Overflow;
        public readonly bool IsTyped;
    }

    // A message, or items, in place. It lives on the stack of the callback that got it.
    public unsafe ref struct Message
    {
        private readonly NativeView view;

        internal Message(NativeView view)
        {
            this.view = view;
        }

        // All of it, gaps between items included.
        public ReadOnlySpan<byte> Data
        {
            get { return new ReadOnlySpan<byte>(view.Data, checked((int)view.Len)); }
        }

        public int Kind { get { return view.Kind; } }
        public int Flags { get { return view.Flags; } }
        public long Seq { get { return (long)view.Seq; } } // of the first item
        public int Count { get { return (int)view.Count; } }

        // The items as structs that are as long.
        public ReadOnlySpan<T> Items<T>() where T : struct
        {
            return Views.Items<T>(view);
        }

        public ReadOnlySpan<byte> Item(int index)
        {
            return Views.Item(view, index);
        }
    }

    // A message that was copied, or one to be sent.
    public sealed class OwnedMessage
    {
        public OwnedMessage(byte[] data, int kind = 1, int flags = 0, long seq = 0)
        {
            Data = data;
            Kind = kind;
            Flags = flags;
            Seq = seq;
        }

        public readonly byte[] Data;
        public readonly int Kind, Flags;
        public readonly long Seq;
    }

    public delegate void Reader(Message message);

    // Fills room in the ring; returns how much of it is to be sent: bytes, or items.
    public delegate int Writer(Span<byte> room);

    public static class Library
    {
        public static string Version
        {
            get { return Native.Text(Native.shmipc_version()); }
        }

        public static string Text(Result result)
        {
            return Native.Text(Native.shmipc_result_text((int)result));
        }
    }

    // Views of items that lie `stride` bytes apart.
    internal static unsafe class Views
    {
        internal static int ItemSize(NativeView view)
        {
            return checked((int)(view.Len - (view.Count - 1) * view.Stride));
        }

        internal static ReadOnlySpan<byte> Item(NativeView view, int index)
        {
            if (index < 0 || (ulong)index >= view.Count)
            {
                throw new ArgumentOutOfRangeException("index");
            }
            return new ReadOnlySpan<byte>(view.Data + (ulong)index * view.Stride, ItemSize(view));
        }

        internal static ReadOnlySpan<T> Items<T>(NativeView view) where T : struct
        {
            int size = Blittable<T>.Size;
            if (ItemSize(view) != size || (view.Count > 1 && view.Stride != (ulong)size))
            {
                throw new MismatchException(
                    typeof(T) + " has " + size + " bytes, an item of this ring has " +
                    ItemSize(view) + ", the next begins after " + view.Stride);
            }
            return new ReadOnlySpan<T>(view.Data, checked((int)view.Count));
        }
    }

    // Structs without references, whose bytes are the item's.
    internal static class Blittable<T> where T : struct
    {
        // An ArgumentException for a struct with references.
        internal static readonly int Size = MemoryMarshal.AsBytes<T>(new T[1]).Length;
    }

    internal static unsafe class Times
    {
        internal static long Nanoseconds(TimeSpan? timeout)
        {
            if (timeout == null || timeout.Value == Timeout.InfiniteTimeSpan)
            {
                return -1;
            }
            long ticks = Math.Max(0, timeout.Value.Ticks);
            return ticks > long.MaxValue / 100 ? -1 : ticks * 100;
        }

        internal static long Spin(TimeSpan? spin)
        {
            return spin == null ? -2 : Nanoseconds(spin);
        }
    }

    internal static class Arguments
    {
        internal static ulong[] Shape(long[] shape)
        {
            if (shape == null || shape.Length == 0)
            {
                return null;
            }
            return Array.ConvertAll(shape, extent =>
            {
                if (extent < 0)
                {
                    throw new InvalidException("an extent of a shape is " + extent);
                }
                return (ulong)extent;
            });
        }

        // What is unsigned in the library must not become large by a cast.
        internal static uint NotNegative(string what, int value)
        {
            if (value < 0)
            {
                throw new InvalidException(what + " is " + value);
            }
            return (uint)value;
        }
    }

    // One thread inside at a time. The library sees to that within a call; this does so for calls
    // with a callback in the middle of them.
    internal struct Gate
    {
        private int inside;

        internal void Enter(string what)
        {
            if (Interlocked.CompareExchange(ref inside, 1, 0) != 0)
            {
                throw new MisuseException("another call is inside this " + what +
                                          ": it serves one thread, and one call, at a time");
            }
        }

        internal void Leave()
        {
            Volatile.Write(ref inside, 0);
        }
    }
}
