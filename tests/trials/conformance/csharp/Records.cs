// Records.cs: typed records by their fields, and the layouts of the binding's own structs.
using System;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using Shmipc;

static unsafe partial class Peer
{
    [StructLayout(LayoutKind.Sequential)]
    struct Record
    {
        public const string Dtype =
            "[('id', '<u8'), ('price', '<f8'), ('ratio', '<f4'), ('quantity', '<i4'), " +
            "('level', '<i2'), ('code', '<u2'), ('side', '|u1'), ('sign', '|i1'), " +
            "('tag', '|S10'), ('levels', '<i4', (3,)), ('', '|V4')]";
        public ulong Id;
        public double Price;
        public float Ratio;
        public int Quantity;
        public short Level;
        public ushort Code;
        public byte Side;
        public sbyte Sign;
        public fixed byte Tag[10];
        public fixed int Levels[3];
    }

    static Record RecordOf(ulong number)
    {
        unchecked
        {
            ulong r = Mix(number);
            var record = new Record
            {
                Id = r,
                Price = (int)r / 64.0,
                Ratio = (short)r / 4f,
                Quantity = (int)(r >> 32),
                Level = (short)(r >> 16),
                Code = (ushort)(r >> 24),
                Side = (byte)(r >> 40),
                Sign = (sbyte)(r >> 48)
            };
            byte[] tag = Encoding.ASCII.GetBytes("T" + (r >> 50));
            for (int i = 0; i < tag.Length; i++)
            {
                record.Tag[i] = tag[i];
            }
            record.Levels[0] = (int)(r >> 8);
            record.Levels[1] = -1;
            record.Levels[2] = (int)number;
            return record;
        }
    }

    // put NAME FIRST COUNT: one by one, then all again as one batch; then close.
    static string Put(string name, ulong first, int count)
    {
        var options = new ProducerOptions { Dtype = Record.Dtype, ItemSize = sizeof(Record) };
        using (var records = new Producer(name, options))
        {
            for (int i = 0; i < count; i++)
            {
                records.SendItem(RecordOf(first + (ulong)i), TimeSpan.Zero);
            }
            records.ReserveItems(count, room =>
            {
                Span<Record> at = MemoryMarshal.Cast<byte, Record>(room);
                for (int i = 0; i < count; i++)
                {
                    at[i] = RecordOf(first + (ulong)i);
                }
                return count;
            }, TimeSpan.Zero);
        }
        return "ok " + count;
    }

    static void Show(StringBuilder said, Record record, long seq)
    {
        string tag = "";
        for (int i = 0; i < 10 && record.Tag[i] != 0; i++)
        {
            tag += (char)record.Tag[i];
        }
        said.AppendFormat(" {0},{1},{2},{3},{4},{5},{6},{7},{8},{9},{10},{11},{12}", seq,
                          record.Id, (long)(record.Price * 64), (long)(record.Ratio * 4),
                          record.Quantity, record.Level, record.Code, record.Side, record.Sign,
                          tag, record.Levels[0], record.Levels[1], record.Levels[2]);
    }

    // get NAME COUNT: half copied, half in place; then close.
    static string Get(string name, int count)
    {
        var said = new StringBuilder("ok");
        var options = new ConsumerOptions
        {
            Dtype = Record.Dtype,
            ItemSize = sizeof(Record),
            Timeout = TimeSpan.Zero
        };
        using (var records = new Consumer(name, options))
        {
            for (int i = 0; i < count / 2; i++)
            {
                Show(said, records.RecvItem<Record>(TimeSpan.Zero), i);
            }
            using (Frame frame = records.ReadItems(count - count / 2, TimeSpan.Zero))
            {
                ReadOnlySpan<Record> items = frame.Items<Record>();
                for (int i = 0; i < items.Length; i++)
                {
                    Show(said, items[i], frame.Seq + i);
                }
            }
        }
        return said.ToString();
    }

    // layouts: NAME=SIZE:OFFSET,... of each struct of shmipc.h, in its order
    static string Layouts()
    {
        return "ok " + string.Join(" ", new[]
        {
            Layout<NativeInfo>(), Layout<NativeView>(), Layout<NativeProducerOptions>(),
            Layout<ProducerStats>(), Layout<NativeConsumerOptions>(), Layout<ConsumerStats>()
        });
    }

    static string Layout<T>() where T : struct
    {
        var offsets = typeof(T).GetFields(System.Reflection.BindingFlags.Instance |
                                          System.Reflection.BindingFlags.Public)
                          .Select(field => Marshal.OffsetOf(typeof(T), field.Name).ToString());
        return Marshal.SizeOf(typeof(T)) + ":" + string.Join(",", offsets);
    }
}
