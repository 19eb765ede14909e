// Misuse.cs: every rule of Shmipc.cs that can be broken in C#, broken: what comes of it is an
// exception that has a name, and nothing else happens.
//
// Owns: `misuse CASE NAME`, answered by "ok what=RESULT ...". What is right is in run.py's table.
using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using Shmipc;

static unsafe partial class Peer
{
    // What P/Invoke allows and Shmipc.cs never does: any pointer as any handle.
    static class Raw
    {
        [DllImport("shmipc")] internal static extern int
        shmipc_producer_open(out IntPtr producer, byte[] name, IntPtr options);
        [DllImport("shmipc")] internal static extern int
        shmipc_producer_send(IntPtr producer, byte[] data, UIntPtr len, uint kind, uint flags,
                             long timeoutNs);
        [DllImport("shmipc")] internal static extern int
        shmipc_producer_stats(IntPtr producer, out ProducerStats stats);
        [DllImport("shmipc")] internal static extern int shmipc_producer_abort(IntPtr producer);
        [DllImport("shmipc")] internal static extern int shmipc_producer_unlink(IntPtr producer);
        [DllImport("shmipc")] internal static extern int shmipc_producer_interrupt(IntPtr producer);
        [DllImport("shmipc")] internal static extern int shmipc_producer_close(IntPtr producer);
        [DllImport("shmipc")] internal static extern int
        shmipc_consumer_open(out IntPtr consumer, byte[] name, IntPtr options);
        [DllImport("shmipc")] internal static extern int
        shmipc_consumer_peek(IntPtr consumer, out NativeView view);
        [DllImport("shmipc")] internal static extern int
        shmipc_consumer_recv(IntPtr consumer, byte[] buffer, UIntPtr len, IntPtr view,
                             long timeoutNs);
        [DllImport("shmipc")] internal static extern int shmipc_consumer_release(IntPtr consumer);
        [DllImport("shmipc")] internal static extern int
        shmipc_consumer_interrupt(IntPtr consumer);
        [DllImport("shmipc")] internal static extern int shmipc_consumer_close(IntPtr consumer);
        [DllImport("shmipc")] internal static extern int
        shmipc_frame_view(IntPtr frame, out NativeView view);
    }

    static StringBuilder said;

    static string ResultOf(Action call)
    {
        try
        {
            call();
            return "SUCCESS";
        }
        catch (ShmipcException error)
        {
            return error.GetType().Name == error.Result + "Exception" && error.Message.Length > 0
                       ? Name(error)
                       : "WRONG-TYPE-" + error.GetType().Name;
        }
        catch (ObjectDisposedException)
        {
            return "DISPOSED";
        }
    }

    static void Say(string what, Action call)
    {
        said.Append(' ').Append(what).Append('=').Append(ResultOf(call));
    }

    static void Say(string what, int result)
    {
        said.Append(' ').Append(what).Append('=').Append(Name((Result)result));
    }

    static void Say(string what, bool truth)
    {
        said.Append(' ').Append(what).Append('=').Append(truth ? 1 : 0);
    }

    static Producer Make(string name, Overflow overflow = Overflow.Block)
    {
        return new Producer(name, new ProducerOptions { Capacity = 4096, Overflow = overflow });
    }

    static Consumer Join(string name)
    {
        return new Consumer(name, new ConsumerOptions { Timeout = TimeSpan.Zero });
    }

    static readonly byte[] x = { 120 };

    static void AllOf(Producer p)
    {
        Say("send", () => p.Send(x, 1, 0, TimeSpan.Zero));
        Say("send_messages", () => p.SendMany(new[] { new OwnedMessage(x) }, TimeSpan.Zero));
        Say("reserve", () => p.Reserve(1, room => 1, 1, 0, TimeSpan.Zero));
        Say("reserve_n", () => p.ReserveItems(1, room => 1, TimeSpan.Zero));
        Say("wait_for_consumers", () => p.WaitForConsumers(1, TimeSpan.Zero));
        Say("unlink", () => p.Unlink());
        Say("interrupt", () => p.Interrupt());
        Say("stats", () => p.Stats.ToString());
    }

    static void AllOf(Consumer c)
    {
        Say("peek", () => c.Peek(message => { }));
        Say("peek_n", () => c.PeekItems(1, message => { }));
        Say("peek_messages", () => c.PeekMessages(1, message => { }));
        Say("recv", () => c.Recv(TimeSpan.Zero));
        Say("wait", () => c.Wait(TimeSpan.Zero));
        Say("wait_any", () => Consumer.WaitAny(new[] { c }, TimeSpan.Zero));
        Say("read", () => c.Read(TimeSpan.Zero));
        Say("read_n", () => c.ReadItems(1, TimeSpan.Zero));
        Say("interrupt", () => c.Interrupt());
        Say("stats", () => c.Stats.ToString());
    }

    static void MisuseClosed(string name)
    {
        Producer p = Make(name);
        Consumer c = Join(name);
        p.Close();
        AllOf(p);
        Say("close", () => p.Close());
        said.Append(" ;");
        c.Close();
        AllOf(c);
        Say("close", () => c.Close());
        p.Dispose();
        c.Dispose();
    }

    // Never a stale pointer: objects that were disposed, and a frame whose consumer was.
    static void MisuseDisposed(string name)
    {
        Producer p = Make(name);
        Consumer c = Join(name);
        p.Send(x);
        Frame frame = c.Read(TimeSpan.Zero);
        c.Dispose();
        p.Dispose();
        Say("alive", frame.Data[0] == 120 && frame.IsIntact);
        frame.Dispose();
        frame.Dispose();
        AllOf(p);
        Say("close", () => p.Close());
        said.Append(" ;");
        AllOf(c);
        Say("close", () => c.Close());
        said.Append(" ;");
        Say("data", () => frame.Data.ToArray());
        Say("items", () => frame.Items<byte>().ToArray());
        Say("item", () => frame.Item(0).ToArray());
        Say("view", () => frame.View(message => { }));
        Say("intact", () => frame.IsIntact.ToString());
    }

    static void MisuseNull(string name)
    {
        NativeView view;
        ProducerStats stats;
        IntPtr nothing;
        Say("send", Raw.shmipc_producer_send(IntPtr.Zero, x, (UIntPtr)1, 1, 0, 0));
        Say("stats", Raw.shmipc_producer_stats(IntPtr.Zero, out stats));
        Say("interrupt", Raw.shmipc_producer_interrupt(IntPtr.Zero));
        Say("close", Raw.shmipc_producer_close(IntPtr.Zero));
        said.Append(" ;");
        Say("peek", Raw.shmipc_consumer_peek(IntPtr.Zero, out view));
        Say("recv", Raw.shmipc_consumer_recv(IntPtr.Zero, null, UIntPtr.Zero, IntPtr.Zero, 0));
        Say("interrupt", Raw.shmipc_consumer_interrupt(IntPtr.Zero));
        said.Append(" ;");
        Say("producer_name", Raw.shmipc_producer_open(out nothing, null, IntPtr.Zero));
        Say("frame_view", Raw.shmipc_frame_view(IntPtr.Zero, out view));
        Say("name", () => new Producer(null));
    }

    static void AllRaw(IntPtr p, IntPtr c)
    {
        NativeView view;
        ProducerStats stats;
        Say("send", Raw.shmipc_producer_send(p, x, (UIntPtr)1, 1, 0, 0));
        Say("stats", Raw.shmipc_producer_stats(p, out stats));
        Say("abort", Raw.shmipc_producer_abort(p));
        Say("unlink", Raw.shmipc_producer_unlink(p));
        Say("interrupt", Raw.shmipc_producer_interrupt(p));
        Say("close", Raw.shmipc_producer_close(p));
        said.Append(" ;");
        Say("peek", Raw.shmipc_consumer_peek(c, out view));
        Say("recv", Raw.shmipc_consumer_recv(c, x, (UIntPtr)1, IntPtr.Zero, 0));
        Say("release", Raw.shmipc_consumer_release(c));
        Say("interrupt", Raw.shmipc_consumer_interrupt(c));
        Say("close", Raw.shmipc_consumer_close(c));
    }

    // A consumer's pointer as a producer, a producer's as a consumer, and memory that is neither.
    static void MisuseWrong(string name)
    {
        IntPtr p, c;
        byte[] text = Encoding.ASCII.GetBytes(name + "\0");
        IntPtr foreign = Marshal.AllocHGlobal(1 << 16);
        new Span<byte>((void*)foreign, 1 << 16).Clear();
        Say("open", Raw.shmipc_producer_open(out p, text, IntPtr.Zero));
        Say("open", Raw.shmipc_consumer_open(out c, text, IntPtr.Zero));
        said.Append(" ;");
        AllRaw(c, p);
        said.Append(" ;");
        AllRaw(foreign, foreign);
        said.Append(" ;");
        Say("send", Raw.shmipc_producer_send(p, x, (UIntPtr)1, 1, 0, 0)); // unharmed
        Say("recv", Raw.shmipc_consumer_recv(c, new byte[1], (UIntPtr)1, IntPtr.Zero, 0));
        Native.shmipc_consumer_free(c);
        Native.shmipc_producer_free(p);
        Marshal.FreeHGlobal(foreign);
    }

    static void MisuseArguments(string name)
    {
        Action<string, string, ProducerOptions> refuse =
            (what, ring, given) => Say(what, () => new Producer(ring, given).Dispose());
        refuse("no_consumers", name, new ProducerOptions { MaxConsumers = 0 });
        refuse("consumers", name, new ProducerOptions { MaxConsumers = 1025 });
        refuse("overflow", name, new ProducerOptions { Overflow = (Overflow)9 });
        refuse("item_size", name, new ProducerOptions { Dtype = "<f8", ItemSize = 9 });
        refuse("shape", name, new ProducerOptions { Shape = new long[] { 3 } });
        refuse("dtype", name, new ProducerOptions { Dtype = "rubbish(" });
        refuse("objects", name, new ProducerOptions { Dtype = "|O" });
        refuse("no_field", name, new ProducerOptions { Dtype = "[]" });
        refuse("empty_name", "", null);
        refuse("path", "../x", null);
        refuse("long_name", new string('x', 201), null);
        refuse("zero_in_name", "a\0b", null);
        refuse("negative", name, new ProducerOptions { MaxConsumers = -1 });
        refuse("extent", name, new ProducerOptions { Dtype = "<f8", Shape = new long[] { -1 } });
        using (Producer p = Make(name))
        {
            Say("kind_0", () => p.Send(x, 0));
            Say("kind_65536", () => p.Send(x, 65536));
            Say("kind_negative", () => p.Send(x, -1));
            Say("flags_65536", () => p.Send(x, 1, 65536));
            Say("too_large", () => p.Send(new byte[4096]));
            Say("reserve_negative", () => p.Reserve(-1, room => 0));
            Say("start", () => new Consumer(name, new ConsumerOptions { Start = (Start)7 }));
            Say("latest", () => new Consumer(name, new ConsumerOptions { Start = Start.Latest }));
        }
        NativeProducerOptions options;
        ProducerHandle handle;
        Native.shmipc_producer_options_init(out options);
        options.Abi = 99;
        Say("abi", Native.shmipc_producer_open(out handle, Native.Utf8(name), ref options));
        Say("text", Native.Text(Native.shmipc_last_error()).Contains("99"));
    }

    // Structs that are not as long as an item.
    static void MisuseTypes(string name)
    {
        using (var p = new Producer(name, new ProducerOptions { Dtype = "<f8", MaxConsumers = 2 }))
        using (Consumer c = Join(name))
        {
            Say("other", () => p.SendItem(1f));
            Say("other", () => p.SendItems<float>(new float[2]));
            Say("same", () => p.SendItem(1.5));
            Say("same", () => p.SendItems<double>(new[] { 2.5, 3.5 }));
            Say("other", () => c.RecvItem<int>(TimeSpan.Zero));
            using (Frame frame = c.ReadItems(3, TimeSpan.Zero))
            {
                Say("other", () => frame.Items<float>().ToArray());
                Say("value", frame.Items<double>()[2] == 3.5);
            }
            Say("other", () => new Consumer(name, new ConsumerOptions { Dtype = "<f4" }));
            Say("messages", () => new Consumer(name, new ConsumerOptions { Dtype = "" }));
        }
    }

    static void MisuseOrder(string name)
    {
        using (Producer p = Make(name))
        using (Consumer c = Join(name))
        {
            Say("commit_more", () => p.Reserve(8, room => 9));
            Say("commit_kind_0", () => p.Reserve(8, room => 4, 0));
            p.Reserve(8, room =>
            {
                Say("send_in_reservation", () => p.Send(x));
                Say("reserve_again", () => p.Reserve(8, more => 8));
                Say("close_in_reservation", () => p.Close());
                new byte[] { 1, 2, 3, 4, 5 }.CopyTo(room);
                return 5;
            });
            Say("reserve_items", () => p.ReserveItems(1, room => 1));
            Say("peek_items", () => c.PeekItems(1, message => { }));
            Say("read_items", () => c.ReadItems(1, TimeSpan.Zero));
            c.Peek(message =>
            {
                Say("read_while_peeked", () => c.Read(TimeSpan.Zero));
                Say("recv_while_peeked", () => c.Recv(TimeSpan.Zero));
                Say("close_while_peeked", () => c.Close());
                Say("whole", message.Data.Length == 5 && message.Data[4] == 5);
            });
            Say("recv_empty", () => c.Recv(TimeSpan.Zero));
            p.Send(x);
            Say("thrown", () => c.Peek(message => { throw new MisuseException("mine"); }));
            using (Frame frame = c.Read(TimeSpan.Zero)) // it was left unread
            {
                Say("kept", frame.Data[0] == 120);
            }
        }
    }

    static void MisuseOverrun(string name)
    {
        using (Producer p = Make(name, Overflow.Overwrite))
        using (Consumer c = Join(name))
        {
            p.Send(x);
            Frame frame;
            Say("release", () => c.Peek(message =>
            {
                for (int i = 0; i < 1000; i++)
                {
                    p.Send(x);
                }
            }));
            using (frame = c.Read(TimeSpan.Zero))
            {
                Say("intact", frame.IsIntact);
                for (int i = 0; i < 1000; i++)
                {
                    p.Send(x);
                }
                Say("torn", !frame.IsIntact);
            }
            long seq = c.Recv(TimeSpan.Zero).Seq;
            Say("lost", (long)c.Stats.Lost == seq - 1); // the frame was read
        }
    }

    static void MisuseInterrupt(string name)
    {
        using (Producer p = Make(name))
        {
            using (Consumer c = Join(name))
            {
                c.Interrupt();
                Say("recv", () => c.Recv());
                Say("poll", () => c.Recv(TimeSpan.Zero));
            }
            p.Interrupt();
            Say("wait_for_consumers", () => p.WaitForConsumers(1));
            Say("again", () => p.WaitForConsumers(1, TimeSpan.Zero));
        }
    }

    static void MisuseThreads(string name)
    {
        using (Make(name))
        {
            Consumer c = Join(name);
            string first = "MISUSE";
            var thread = new Thread(() =>
            {
                while (first == "MISUSE") // until it is the first: the other one looks in
                {
                    first = ResultOf(() => c.Recv());
                }
            });
            thread.Start();
            while (ResultOf(() => c.Recv(TimeSpan.Zero)) == "EMPTY")
            {
            }
            Say("second", () => c.Read(TimeSpan.Zero));
            c.Dispose(); // under a thread that waits inside
            thread.Join();
            said.Append(" first=").Append(first);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Forget(string name)
    {
        Join(name).Read(TimeSpan.Zero);
    }

    // What nobody disposed is given back by the collector.
    static void MisuseForgotten(string name)
    {
        using (Producer p = Make(name))
        {
            p.Send(x);
            // in a thread of its own, whose stack has no trace of it afterwards
            var thread = new Thread(() => Forget(name));
            thread.Start();
            thread.Join();
            string result = "BUSY";
            while (result == "BUSY") // the one place is taken until then
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                result = ResultOf(() => Join(name).Dispose());
            }
            said.Append(" join=").Append(result);
        }
    }

    static string Misuse(string what, string name)
    {
        said = new StringBuilder("ok");
        switch (what)
        {
            case "null": MisuseNull(name); break;
            case "closed": MisuseClosed(name); break;
            case "disposed": MisuseDisposed(name); break;
            case "wrong": MisuseWrong(name); break;
            case "arguments": MisuseArguments(name); break;
            case "types": MisuseTypes(name); break;
            case "order": MisuseOrder(name); break;
            case "overrun": MisuseOverrun(name); break;
            case "interrupt": MisuseInterrupt(name); break;
            case "threads": MisuseThreads(name); break;
            case "forgotten": MisuseForgotten(name); break;
            default: return "unsupported";
        }
        return said.ToString();
    }
}
