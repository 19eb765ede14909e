// Native.cs: shmipc.h as C# sees it. The functions, the structs, the handles; nothing else.
//
// Owns: every DllImport, and the check that the structs here are those of the library. Only
// Shmipc.cs uses it: what is public is there.
using System;
using System.Runtime.ConstrainedExecution;
using System.Runtime.InteropServices;

namespace Shmipc
{
    // enum shmipc_result
    public enum Result
    {
        Success, Empty, Full, Closed, ProducerDied, ConsumerDied, NotFound, Busy, Mismatch, Corrupt,
        TooLarge, Invalid, Misuse, Interrupted, Overrun, Os, Abi, Removed
    }

    // struct shmipc_view
    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct NativeView
    {
        public byte* Data;
        public ulong Len, Count, Stride, Seq;
        public ushort Kind, Flags;
        public uint Reserved;
    }

    // struct shmipc_info
    [StructLayout(LayoutKind.Sequential)]
    internal struct NativeInfo
    {
        public IntPtr Name, Schema;
        public ulong Capacity, ItemSize, ItemStride;
        public uint Overflow, MaxConsumers, Slot, Typed;
    }

    // struct shmipc_producer_options
    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct NativeProducerOptions
    {
        public uint Abi, Size;
        public byte* Dtype;
        public ulong* Shape;
        public uint Axes, MaxConsumers;
        public ulong ItemSize, Capacity;
        public long SpinNs;
        public uint Overflow, Mode;
    }

    // struct shmipc_consumer_options
    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct NativeConsumerOptions
    {
        public uint Abi, Size;
        public byte* Dtype;
        public ulong* Shape;
        public uint Axes, Start;
        public ulong ItemSize;
        public long TimeoutNs, SpinNs;
    }

    // struct shmipc_producer_stats: public, since there is nothing to hide
    [StructLayout(LayoutKind.Sequential)]
    public struct ProducerStats
    {
        public ulong CommittedLen, Count, Lag, Sleeps, Wakes, Reclaimed;
        public uint Attached, Kept, TookOver, Reserved;
    }

    // struct shmipc_consumer_stats
    [StructLayout(LayoutKind.Sequential)]
    public struct ConsumerStats
    {
        public ulong Pending, Lag, Lost, Sleeps, Wakes, Frames;
    }

    // A pointer that is released once: by Dispose, or when the collector finds it forgotten. The
    // runtime counts the calls that are inside, and gives nothing back under one of them.
    internal abstract class NativeHandle : SafeHandle
    {
        protected NativeHandle() : base(IntPtr.Zero, true) { }

        public override bool IsInvalid
        {
            get { return handle == IntPtr.Zero; }
        }
    }

    internal sealed class ProducerHandle : NativeHandle
    {
        [ReliabilityContract(Consistency.WillNotCorruptState, Cer.Success)]
        protected override bool ReleaseHandle()
        {
            Native.shmipc_producer_free(handle);
            return true;
        }
    }

    internal sealed class ConsumerHandle : NativeHandle
    {
        [ReliabilityContract(Consistency.WillNotCorruptState, Cer.Success)]
        protected override bool ReleaseHandle()
        {
            Native.shmipc_consumer_free(handle);
            return true;
        }
    }

    internal sealed class FrameHandle : NativeHandle
    {
        [ReliabilityContract(Consistency.WillNotCorruptState, Cer.Success)]
        protected override bool ReleaseHandle()
        {
            Native.shmipc_frame_release(handle);
            return true;
        }
    }

    internal static unsafe class Native
    {
        private const string Library = "shmipc";
        internal const uint Abi = 1;

        static Native()
        {
            Check(shmipc_abi_version() == Abi, "the library is of ABI " + shmipc_abi_version());
            // what the library calls the size of its options, it says itself
            NativeProducerOptions producer;
            NativeConsumerOptions consumer;
            shmipc_producer_options_init(out producer);
            shmipc_consumer_options_init(out consumer);
            Check(producer.Abi == Abi && producer.Size == sizeof(NativeProducerOptions) &&
                  producer.MaxConsumers == 1 && producer.SpinNs == -2 && producer.Overflow == 1 &&
                  producer.Mode == 384, "shmipc_producer_options");
            Check(consumer.Abi == Abi && consumer.Size == sizeof(NativeConsumerOptions) &&
                  consumer.TimeoutNs == -1 && consumer.SpinNs == -2, "shmipc_consumer_options");
            // the rest is fixed for this ABI
            Check(sizeof(NativeView) == 48, "shmipc_view");
            Check(sizeof(NativeInfo) == 56, "shmipc_info");
            Check(sizeof(ProducerStats) == 64, "shmipc_producer_stats");
            Check(sizeof(ConsumerStats) == 48, "shmipc_consumer_stats");
        }

        private static void Check(bool same, string what)
        {
            if (!same)
            {
                throw new AbiException("this binding is of ABI " + Abi + ", the library is not: " +
                                       what);
            }
        }

        // Text with its terminating zero, for the library.
        internal static byte[] Utf8(string text)
        {
            if (text == null)
            {
                return null;
            }
            if (text.IndexOf('\0') >= 0)
            {
                throw new InvalidException("a zero character in \"" + text + "\"");
            }
            return System.Text.Encoding.UTF8.GetBytes(text + "\0");
        }

        // Text of the library.
        internal static string Text(IntPtr at)
        {
            return at == IntPtr.Zero ? "" : Marshal.PtrToStringAnsi(at); // UTF-8 where we run
        }

        [DllImport(Library)] internal static extern uint shmipc_abi_version();
        [DllImport(Library)] internal static extern IntPtr shmipc_version();
        [DllImport(Library)] internal static extern IntPtr shmipc_result_text(int result);
        [DllImport(Library)] internal static extern IntPtr shmipc_last_error();
        [DllImport(Library)] internal static extern int shmipc_last_errno();

        // ---- the producer

        [DllImport(Library)] internal static extern void
        shmipc_producer_options_init(out NativeProducerOptions options);
        [DllImport(Library)] internal static extern int
        shmipc_producer_open(out ProducerHandle producer, byte[] name,
                             ref NativeProducerOptions options);
        [DllImport(Library)] internal static extern int
        shmipc_producer_open_holding(out ProducerHandle producer, byte[] name,
                                     ref NativeProducerOptions options, uint holdFor);
        [DllImport(Library)] internal static extern int
        shmipc_producer_send(ProducerHandle producer, byte* data, UIntPtr len, uint kind,
                             uint flags, long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_producer_send_n(ProducerHandle producer, byte* items, ulong count, long timeoutNs,
                               out ulong sent);
        [DllImport(Library)] internal static extern int
        shmipc_producer_send_messages(ProducerHandle producer, NativeView* messages, UIntPtr count,
                                      long timeoutNs, out UIntPtr sent);
        [DllImport(Library)] internal static extern int
        shmipc_producer_reserve(ProducerHandle producer, UIntPtr len, long timeoutNs,
                                out byte* data);
        [DllImport(Library)] internal static extern int
        shmipc_producer_commit(ProducerHandle producer, UIntPtr len, uint kind, uint flags);
        [DllImport(Library)] internal static extern int
        shmipc_producer_reserve_n(ProducerHandle producer, ulong count, long timeoutNs,
                                  out byte* data);
        [DllImport(Library)] internal static extern int
        shmipc_producer_commit_n(ProducerHandle producer, ulong count);
        [DllImport(Library)] internal static extern int
        shmipc_producer_abort(ProducerHandle producer);
        [DllImport(Library)] internal static extern int
        shmipc_producer_wait_for_consumers(ProducerHandle producer, uint count, long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_producer_unlink(ProducerHandle producer);
        [DllImport(Library)] internal static extern int
        shmipc_producer_interrupt(ProducerHandle producer);
        [DllImport(Library)] internal static extern int
        shmipc_producer_close(ProducerHandle producer);
        [DllImport(Library)] internal static extern void shmipc_producer_free(IntPtr producer);
        [DllImport(Library)] internal static extern int
        shmipc_producer_info(ProducerHandle producer, out NativeInfo info);
        [DllImport(Library)] internal static extern int
        shmipc_producer_stats(ProducerHandle producer, out ProducerStats stats);

        // ---- the consumer

        [DllImport(Library)] internal static extern void
        shmipc_consumer_options_init(out NativeConsumerOptions options);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_open(out ConsumerHandle consumer, byte[] name,
                             ref NativeConsumerOptions options);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_peek(ConsumerHandle consumer, out NativeView view);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_peek_n(ConsumerHandle consumer, ulong max, out NativeView view);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_peek_messages(ConsumerHandle consumer, NativeView* views, UIntPtr max,
                                      out UIntPtr count);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_release(ConsumerHandle consumer);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_release_n(ConsumerHandle consumer, ulong count);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_recv(ConsumerHandle consumer, byte* buffer, UIntPtr len,
                             out NativeView view, long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_wait(ConsumerHandle consumer, long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_wait_for_producer(ConsumerHandle consumer, long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_wait(IntPtr[] consumers, UIntPtr count, byte[] ready, long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_read(ConsumerHandle consumer, out FrameHandle frame, long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_read_n(ConsumerHandle consumer, ulong max, out FrameHandle frame,
                               long timeoutNs);
        [DllImport(Library)] internal static extern int
        shmipc_frame_view(FrameHandle frame, out NativeView view);
        [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool
        shmipc_frame_is_intact(FrameHandle frame);
        [DllImport(Library)] internal static extern void shmipc_frame_release(IntPtr frame);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_interrupt(ConsumerHandle consumer);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_close(ConsumerHandle consumer);
        [DllImport(Library)] internal static extern void shmipc_consumer_free(IntPtr consumer);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_info(ConsumerHandle consumer, out NativeInfo info);
        [DllImport(Library)] internal static extern int
        shmipc_consumer_stats(ConsumerHandle consumer, out ConsumerStats stats);
    }
}
