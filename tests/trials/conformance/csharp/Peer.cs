// Peer.cs: the C# peer of the conformance tests. One process that does what tests/trials/conformance/run.py
// says, line by line: README.md beside this directory has the protocol.
//
// Owns: the commands, over examples/csharp/Shmipc.cs. Misuse.cs has those that break the rules,
// Records.cs those about fields. Must not know: the scenarios, what is right.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Shmipc;

static partial class Peer
{
    const int MostBatch = 64;

    static readonly TextReader input = Console.In;
    static readonly StreamWriter output =
        new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false));
    static Producer producer;
    static Consumer consumer;
    static readonly List<Frame> held = new List<Frame>();

    static int Main()
    {
        Answer("ready " + Library.Version + " " + Native.shmipc_abi_version());
        Loop();
        held.ForEach(frame => frame.Dispose());
        if (producer != null)
        {
            producer.Dispose();
        }
        if (consumer != null)
        {
            consumer.Dispose();
        }
        return 0;
    }

    static void Answer(string line)
    {
        output.Write(line + "\n");
        output.Flush();
    }

    // Lines until `quit`, or `abort` within a reservation.
    static bool inReservation, inLoop = true;

    static void Loop()
    {
        string line;
        while (inLoop && (line = input.ReadLine()) != null)
        {
            string verb = line.Split(' ')[0];
            int most = verb == "produce" ? 7 : verb == "consume" ? 6 : 12;
            string[] words = line.Split(new[] { ' ' }, most);
            if (verb == "quit")
            {
                inLoop = false;
                return;
            }
            if (verb == "abort" && inReservation)
            {
                return; // Room answers
            }
            done = 0;
            try
            {
                string said = Do(words);
                if (said != null)
                {
                    Answer(said);
                }
            }
            catch (ShmipcException error)
            {
                Answer("error " + Name(error) + " " + (done + (ulong)error.Sent) + " " + error.Message);
            }
            catch (ObjectDisposedException error)
            {
                Answer("error DISPOSED 0 " + error.Message);
            }
        }
    }

    static string Name(ShmipcException error)
    {
        return Name(error.Result);
    }

    // ProducerDied: PRODUCER_DIED
    static string Name(Result result)
    {
        return string.Concat(result.ToString().Select(
            (letter, i) => (i > 0 && char.IsUpper(letter) ? "_" : "") + char.ToUpper(letter)));
    }

    static TimeSpan? Time(string milliseconds)
    {
        int value = int.Parse(milliseconds);
        return value < 0 ? (TimeSpan?)null : TimeSpan.FromMilliseconds(value);
    }

    static long[] Shape(string text)
    {
        return text == "-" ? null : text.Split(',').Select(long.Parse).ToArray();
    }

    static string Do(string[] words)
    {
        switch (words[0])
        {
            case "produce":
                return Produce(words);
            case "consume":
                return Consume(words);
            case "send":
                return Send(words);
            case "take":
                return Take(words);
            case "put":
                return Put(words[1], ulong.Parse(words[2]), int.Parse(words[3]));
            case "get":
                return Get(words[1], int.Parse(words[2]));
            case "hold":
                for (int i = int.Parse(words[1]); i > 0; i--)
                {
                    held.Add(consumer.Read(Time(words[2])));
                    done = (ulong)held.Count;
                }
                return "ok " + held.Count;
            case "held":
                ulong sum = 0;
                held.ForEach(frame => frame.View(message => sum += Digest(message)));
                return string.Format("ok {0} {1:x16} {2}", held.Count, sum,
                                     held.All(frame => frame.IsIntact) ? 1 : 0);
            case "drop":
                held[int.Parse(words[1])].Dispose();
                held.RemoveAt(int.Parse(words[1]));
                return "ok " + held.Count;
            case "stats":
                return Stats(words[1]);
            case "room":
                return Room(int.Parse(words[1]), Time(words[2]));
            case "unlink":
                producer.Unlink();
                return "ok 0";
            case "wait":
                producer.WaitForConsumers(int.Parse(words[1]), Time(words[2]));
                return "ok 0";
            case "await":
                Consumer.WaitAny(new[] { consumer }, Time(words[1]));
                return "ok 0";
            case "close":
                if (words[1] == "producer")
                {
                    producer.Close();
                }
                else
                {
                    consumer.Close();
                }
                return "ok 0";
            case "layouts":
                return Layouts();
            case "misuse":
                return Misuse(words[1], words[2]);
            default:
                return "unsupported";
        }
    }

    // produce NAME CONSUMERS CAPACITY POLICY SHAPE DTYPE
    static string Produce(string[] words)
    {
        if (producer != null)
        {
            producer.Dispose();
        }
        producer = new Producer(words[1], new ProducerOptions
        {
            MaxConsumers = int.Parse(words[2]),
            Capacity = long.Parse(words[3]),
            Overflow = words[4] == "block" ? Overflow.Block : Overflow.Overwrite,
            Shape = Shape(words[5]),
            Dtype = words[6] == "-" ? null : words[6]
        });
        return "ok " + Schema(producer.Info);
    }

    // consume NAME START MS SHAPE DTYPE
    static string Consume(string[] words)
    {
        if (consumer != null)
        {
            consumer.Dispose();
        }
        consumer = new Consumer(words[1], new ConsumerOptions
        {
            Start = words[2] == "resume" ? Start.Resume
                    : words[2] == "latest" ? Start.Latest : Start.Earliest,
            Timeout = Time(words[3]),
            Shape = Shape(words[4]),
            Dtype = words[5] == "*" ? null : words[5] == "-" ? "" : words[5]
        });
        return "ok " + Schema(consumer.Info);
    }

    static string Schema(RingInfo info)
    {
        return info.IsTyped ? info.Schema : "-";
    }

    static string Stats(string which)
    {
        if (which == "producer")
        {
            ProducerStats p = producer.Stats;
            return string.Format("ok {0} {1} {2} {3}", p.Count, p.Lag, p.Attached, p.TookOver);
        }
        ConsumerStats c = consumer.Stats;
        return string.Format("ok {0} {1} {2} {3}", c.Pending, c.Lag, c.Lost, c.Frames);
    }

    sealed class GivenUp : Exception { }

    // A reservation stays open while other lines are done.
    static string Room(int len, TimeSpan? timeout)
    {
        try
        {
            producer.Reserve(len, room =>
            {
                room.Fill(0xEE);
                Answer("ok " + len);
                inReservation = true;
                Loop();
                inReservation = false;
                throw new GivenUp();
            }, 1, 0, timeout);
        }
        catch (GivenUp)
        {
            return inLoop ? "ok 0" : null;
        }
        return null;
    }
}
