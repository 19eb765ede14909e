// Stream.cs: what the C# peer sends and takes: the generator, the digest, every way in and out.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;
using Shmipc;

static partial class Peer
{
    static ulong done; // of the command at hand, before a failure

    // ---- the generator, and the digest

    static ulong Mix(ulong x)
    {
        unchecked
        {
            x += 0x9E3779B97F4A7C15;
            x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
            x = (x ^ x >> 27) * 0x94D049BB133111EB;
            return x ^ x >> 31;
        }
    }

    static void Fill(Span<byte> at, ulong start)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(at);
        for (int j = 0; j < words.Length; j++)
        {
            words[j] = Mix(unchecked(start + 1 + (ulong)j));
        }
        ulong last = Mix(unchecked(start + 1 + (ulong)words.Length));
        for (int i = 8 * words.Length; i < at.Length; i++)
        {
            at[i] = (byte)(last >> 8 * (i % 8));
        }
    }

    static ulong Digest(ReadOnlySpan<byte> at, long seq, int kind, int flags)
    {
        unchecked
        {
            var sum = (ulong)at.Length;
            ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(at);
            for (int j = 0; j < words.Length; j++)
            {
                sum += Mix(words[j] ^ Mix((ulong)j));
            }
            if (at.Length % 8 != 0)
            {
                ulong last = 0;
                for (int i = 8 * words.Length; i < at.Length; i++)
                {
                    last |= (ulong)at[i] << 8 * (i % 8);
                }
                sum += Mix(last ^ Mix((ulong)words.Length));
            }
            return Mix(Mix(Mix((ulong)seq) ^ ((ulong)kind << 16 | (ulong)flags)) ^ sum);
        }
    }

    static ulong Digest(Message message)
    {
        ulong sum = 0;
        for (int i = 0; i < message.Count; i++)
        {
            sum = unchecked(
                sum + Digest(message.Item(i), message.Seq + i, message.Kind, message.Flags));
        }
        return sum;
    }

    // ---- sending

    struct Plan
    {
        public ulong Seed, Low, High;
        public int Kind, Flags;

        public OwnedMessage Message(ulong number)
        {
            ulong start = Mix(unchecked(Seed + number));
            var data = new byte[Low + (start >> 8) % (High - Low + 1)];
            Peer.Fill(data, start);
            return new OwnedMessage(data, Kind >= 0 ? Kind : (int)(1 + (start >> 32) % 65535),
                            Flags >= 0 ? Flags : (int)(start >> 48));
        }
    }

    // send MODE SEED FIRST COUNT LOW HIGH KIND FLAGS BATCH MS
    static string Send(string[] words)
    {
        var plan = new Plan
        {
            Seed = ulong.Parse(words[2]),
            Low = ulong.Parse(words[5]),
            High = ulong.Parse(words[6]),
            Kind = int.Parse(words[7]),
            Flags = int.Parse(words[8])
        };
        ulong first = ulong.Parse(words[3]), count = ulong.Parse(words[4]);
        ulong batch = ulong.Parse(words[9]);
        TimeSpan? timeout = Time(words[10]);
        while (done < count)
        {
            ulong most = Math.Min(batch, count - done);
            if (words[1] == "send")
            {
                OwnedMessage message = plan.Message(first + done);
                producer.Send(message.Data, message.Kind, message.Flags, timeout);
                done++;
            }
            else if (words[1] == "many")
            {
                SendBatch(plan, first + done, (int)most, timeout);
                done += most;
            }
            else
            {
                done += Reserve(plan, first + done, (int)most, (int)batch, timeout);
            }
        }
        return "ok " + done;
    }

    static void SendBatch(Plan plan, ulong number, int count, TimeSpan? timeout)
    {
        var messages = new List<OwnedMessage>();
        for (int i = 0; i < count; i++)
        {
            messages.Add(plan.Message(number + (ulong)i));
        }
        if (!producer.Info.IsTyped)
        {
            producer.SendMany(messages, timeout);
            return;
        }
        var items = new List<byte>();
        messages.ForEach(message => items.AddRange(message.Data));
        producer.SendBytes(items.ToArray(), timeout);
    }

    // In place: more room than is used, and now and then given up first.
    static ulong Reserve(Plan plan, ulong number, int most, int batch, TimeSpan? timeout)
    {
        if (producer.Info.IsTyped)
        {
            producer.ReserveItems(most + 1, room =>
            {
                for (int i = 0; i < most; i++)
                {
                    plan.Message(number + (ulong)i).Data
                        .CopyTo(room.Slice(i * producer.Info.ItemStride));
                }
                return most;
            }, timeout);
            return (ulong)most;
        }
        OwnedMessage message = plan.Message(number);
        if (number % 5 == 3)
        {
            try
            {
                producer.Reserve(message.Data.Length, room =>
                {
                    room.Fill(0xEE);
                    throw new GivenUp();
                }, 1, 0, timeout);
            }
            catch (GivenUp)
            {
                // nothing of it is sent
            }
        }
        producer.Reserve(message.Data.Length + batch - 1, room =>
        {
            message.Data.CopyTo(room);
            return message.Data.Length;
        }, message.Kind, message.Flags, timeout);
        return 1;
    }

    // ---- taking

    sealed class Tally
    {
        public long Count, Len, Discarded;
        public ulong Sum;
        private readonly List<long[]> runs = new List<long[]>();

        public void Add(long seq, int count, long len, ulong sum)
        {
            Count += count;
            Len += len;
            Sum = unchecked(Sum + sum);
            if (runs.Count > 0 && runs[runs.Count - 1][1] == seq)
            {
                runs[runs.Count - 1][1] += count;
            }
            else
            {
                runs.Add(new[] { seq, seq + count });
            }
        }

        public string Runs()
        {
            var text = new StringBuilder();
            foreach (long[] run in runs)
            {
                text.Append(text.Length > 0 ? "," : "").Append(run[0]).Append('+')
                    .Append(run[1] - run[0]);
            }
            return text.ToString();
        }
    }

    static long BytesOf(Message message)
    {
        return (long)message.Count * (message.Count > 0 ? message.Item(0).Length : 0);
    }

    // take MODE COUNT BATCH MS
    static string Take(string[] words)
    {
        long wanted = long.Parse(words[2]), batch = long.Parse(words[3]);
        TimeSpan? timeout = Time(words[4]);
        var tally = new Tally();
        string end = "-", text = "";
        try
        {
            while (tally.Count < wanted)
            {
                var max = (int)Math.Min(batch, wanted - tally.Count);
                switch (words[1])
                {
                    case "recv":
                        OwnedMessage copy = consumer.Recv(timeout);
                        tally.Add(copy.Seq, 1, copy.Data.Length,
                                  Digest(copy.Data, copy.Seq, copy.Kind, copy.Flags));
                        break;
                    case "read":
                        TakeFrame(tally, consumer.Read(timeout));
                        break;
                    case "read_n":
                        TakeFrame(tally, consumer.ReadItems(max, timeout));
                        break;
                    default:
                        consumer.Wait(timeout);
                        Peek(tally, words[1] == "peek" ? 0 : max);
                        break;
                }
            }
        }
        catch (ShmipcException error)
        {
            end = Name(error);
            text = error.Message;
        }
        ulong lost = 0;
        try
        {
            lost = consumer.Stats.Lost;
        }
        catch (ClosedException)
        {
            // a closed handle counts nothing
        }
        return string.Format("ok {0} {1} {2:x16} {3} {4} {5} {6} | {7}", tally.Count, tally.Len,
                             tally.Sum, lost, tally.Discarded, end, tally.Runs(), text);
    }

    static void TakeFrame(Tally tally, Frame frame)
    {
        using (frame)
        {
            ulong sum = 0;
            long len = 0;
            frame.View(message =>
            {
                sum = Digest(message);
                len = BytesOf(message);
            });
            if (frame.IsIntact)
            {
                tally.Add(frame.Seq, frame.Count, len, sum);
            }
            else
            {
                tally.Discarded += frame.Count;
            }
        }
    }

    struct Seen
    {
        public long Seq, Len;
        public int Count;
        public ulong Sum;
    }

    static void Peek(Tally tally, int max)
    {
        var seen = new List<Seen>();
        Reader look = message => seen.Add(new Seen
        {
            Seq = message.Seq,
            Count = message.Count,
            Len = BytesOf(message),
            Sum = Digest(message)
        });
        try
        {
            if (max == 0)
            {
                consumer.Peek(look);
            }
            else if (consumer.Info.IsTyped)
            {
                consumer.PeekItems(max, look);
            }
            else
            {
                consumer.PeekMessages(max, look);
            }
        }
        catch (OverrunException)
        {
            return; // it counts as lost
        }
        seen.ForEach(one => tally.Add(one.Seq, one.Count, one.Len, one.Sum));
    }
}
