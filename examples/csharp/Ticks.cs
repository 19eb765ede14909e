// Ticks.cs: ticks from one process to another. Start both, in any order:
//
//     mono Ticks.exe consume ticks        mono Ticks.exe produce ticks 1000000
//
// Either end may as well be Python: Consumer("ticks"), or Producer("ticks", dtype=...) of that dtype.
using System;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Shmipc;

[StructLayout(LayoutKind.Sequential)]
struct Tick
{
    public const string Dtype = "[('number', '<u8'), ('price', '<f8'), ('size', '<f4'), ('side', '<i4')]";
    public ulong Number;
    public double Price;
    public float Size;
    public int Side;
}

static class Ticks
{
    static int Main(string[] arguments)
    {
        if (arguments.Length == 3 && arguments[0] == "produce")
        {
            return Produce(arguments[1], long.Parse(arguments[2]));
        }
        if (arguments.Length == 2 && arguments[0] == "consume")
        {
            return Consume(arguments[1]);
        }
        Console.Error.WriteLine("usage: Ticks produce RING COUNT | Ticks consume RING");
        return 2;
    }

    static int Produce(string ring, long count)
    {
        var options = new ProducerOptions { Dtype = Tick.Dtype, ItemSize = 24, Capacity = 1 << 14 };
        using (var producer = new Producer(ring, options))
        {
            for (long sent = 0; sent < count;)
            {
                // written into the ring itself: nobody sees them before they are all there
                producer.ReserveItems((int)Math.Min(256, count - sent), room =>
                {
                    Span<Tick> ticks = MemoryMarshal.Cast<byte, Tick>(room);
                    for (int i = 0; i < ticks.Length; i++, sent++)
                    {
                        ticks[i].Number = (ulong)sent;
                        ticks[i].Price = 100 + sent % 64 / 64.0;
                        ticks[i].Size = 1;
                        ticks[i].Side = sent % 2 == 0 ? 1 : -1;
                    }
                    return ticks.Length;
                });
            }
        }
        Console.WriteLine("sent " + count + " ticks");
        return 0;
    }

    static int Consume(string ring)
    {
        ulong count = 0;
        double sum = 0;
        Stopwatch watch = null;
        var options = new ConsumerOptions { Dtype = Tick.Dtype, ItemSize = 24 };
        using (var consumer = new Consumer(ring, options))
        {
            try
            {
                for (;;)
                {
                    // all that is ready, where it lies
                    using (Frame frame = consumer.ReadItems(4096))
                    {
                        watch = watch ?? Stopwatch.StartNew();
                        foreach (Tick tick in frame.Items<Tick>())
                        {
                            if (tick.Number != count++)
                            {
                                throw new Exception("tick " + tick.Number + " came out of order");
                            }
                            sum += tick.Price;
                        }
                    }
                }
            }
            catch (ClosedException)
            {
                // the end of the stream
            }
        }
        if (count == 0)
        {
            Console.Error.WriteLine("ring " + ring + " ended before its first tick");
            return 1;
        }
        double seconds = watch.Elapsed.TotalSeconds;
        Console.WriteLine("{0} ticks in order, mean price {1:F4}, {2:F1} million a second", count,
                          sum / count, count / seconds / 1e6);
        return 0;
    }
}
