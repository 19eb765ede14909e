static partial class Peer { static string Misuse(string c, string n) { return "unsupported"; } }
