// Errors.cs: one exception for each result of shmipc.h, with the library's own text.
//
// Owns: the table from results to exceptions. A disposed object is an ObjectDisposedException.
using System;

namespace Shmipc
{
    public class ShmipcException : Exception
    {
        public ShmipcException(Result result, string text) : base(text)
        {
            Result = result;
        }

        public Result Result { get; private set; }

        // Of the sends of many: how many were sent before this one was not.
        public long Sent { get; internal set; }
    }

    // Nothing to read within the timeout.
    public sealed class EmptyException : ShmipcException
    {
        public EmptyException(string text) : base(Result.Empty, text) { }
    }

    // No room within the timeout; nothing was sent.
    public sealed class FullException : ShmipcException
    {
        public FullException(string text) : base(Result.Full, text) { }
    }

    // The stream ended and was read to its end, or Close() was called here.
    public sealed class ClosedException : ShmipcException
    {
        public ClosedException(string text) : base(Result.Closed, text) { }
    }

    // The process at the other end ended without closing.
    public abstract class PeerDiedException : ShmipcException
    {
        protected PeerDiedException(Result result, string text) : base(result, text) { }
    }

    // All that it committed was read. Call again to go on with a producer that takes over.
    public sealed class ProducerDiedException : PeerDiedException
    {
        public ProducerDiedException(string text) : base(Result.ProducerDied, text) { }
    }

    // The durable queue is full and its reader is dead; nothing was sent.
    public sealed class ConsumerDiedException : PeerDiedException
    {
        public ConsumerDiedException(string text) : base(Result.ConsumerDied, text) { }
    }

    // No such ring, or too few consumers, within the timeout.
    public sealed class NotFoundException : ShmipcException
    {
        public NotFoundException(string text) : base(Result.NotFound, text) { }
    }

    // A live process holds the role; the text names it.
    public sealed class BusyException : ShmipcException
    {
        public BusyException(string text) : base(Result.Busy, text) { }
    }

    // The ring is of another kind, dtype, shape or size; or your struct is.
    public sealed class MismatchException : ShmipcException
    {
        public MismatchException(string text) : base(Result.Mismatch, text) { }
    }

    // Shared memory holds what shmipc never writes.
    public sealed class CorruptException : ShmipcException
    {
        public CorruptException(string text) : base(Result.Corrupt, text) { }
    }

    // The ring's file was removed while in use: close on both sides and open again.
    public sealed class RemovedException : ShmipcException
    {
        public RemovedException(string text) : base(Result.Removed, text) { }
    }

    // Would never fit: the ring, or your buffer.
    public sealed class TooLargeException : ShmipcException
    {
        public TooLargeException(string text) : base(Result.TooLarge, text) { }
    }

    // A bad argument.
    public sealed class InvalidException : ShmipcException
    {
        public InvalidException(string text) : base(Result.Invalid, text) { }
    }

    // Two threads at once, a call out of order.
    public sealed class MisuseException : ShmipcException
    {
        public MisuseException(string text) : base(Result.Misuse, text) { }
    }

    // Interrupt() ended the wait.
    public sealed class InterruptedException : ShmipcException
    {
        public InterruptedException(string text) : base(Result.Interrupted, text) { }
    }

    // Overflow.Overwrite: what you looked at was overwritten meanwhile. Discard it.
    public sealed class OverrunException : ShmipcException
    {
        public OverrunException(string text) : base(Result.Overrun, text) { }
    }

    // The system refused.
    public sealed class OsException : ShmipcException
    {
        public OsException(string text, int errno) : base(Result.Os, text)
        {
            Errno = errno;
        }

        public int Errno { get; private set; }
    }

    // Binding and library do not go together.
    public sealed class AbiException : ShmipcException
    {
        public AbiException(string text) : base(Result.Abi, text) { }
    }

    internal static class Errors
    {
        internal static void Check(int result)
        {
            if (result != 0)
            {
                throw Of(result);
            }
        }

        internal static void CheckOpen(bool open, string name)
        {
            if (!open)
            {
                throw new ClosedException("ring \"" + name + "\" was closed here meanwhile");
            }
        }

        // For the sends of many.
        internal static void Check(int result, ulong sent)
        {
            if (result != 0)
            {
                ShmipcException error = Of(result);
                error.Sent = (long)sent;
                throw error;
            }
        }

        // The exception for a result that this thread just got.
        internal static ShmipcException Of(int result)
        {
            var code = (Result)result;
            switch (code)
            {
                case Result.Empty:
                    return new EmptyException(Sentence(result));
                case Result.Full:
                    return new FullException(Sentence(result));
                case Result.Interrupted:
                    return new InterruptedException(Sentence(result));
                case Result.Overrun:
                    return new OverrunException(Sentence(result));
            }
            string text = Native.Text(Native.shmipc_last_error());
            switch (code)
            {
                case Result.Closed:
                    return new ClosedException(text);
                case Result.ProducerDied:
                    return new ProducerDiedException(text);
                case Result.ConsumerDied:
                    return new ConsumerDiedException(text);
                case Result.NotFound:
                    return new NotFoundException(text);
                case Result.Busy:
                    return new BusyException(text);
                case Result.Mismatch:
                    return new MismatchException(text);
                case Result.Corrupt:
                    return new CorruptException(text);
                case Result.Removed:
                    return new RemovedException(text);
                case Result.TooLarge:
                    return new TooLargeException(text);
                case Result.Invalid:
                    return new InvalidException(text);
                case Result.Misuse:
                    return new MisuseException(text);
                case Result.Os:
                    return new OsException(text, Native.shmipc_last_errno());
                case Result.Abi:
                    return new AbiException(text);
                default:
                    return new ShmipcException(code, Sentence(result) + " " + text);
            }
        }

        private static string Sentence(int result)
        {
            return Native.Text(Native.shmipc_result_text(result));
        }
    }
}
