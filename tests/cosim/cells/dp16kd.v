// Behaviour of Lattice's DP16KD as far as the gateware uses it: port A writes, port B reads, both of one width, the
// output register on or off, contents zero at first. A word that is written while it is read reads as unknown.
// Ref: Lattice Semiconductor, "ECP5 and ECP5-5G Memory Usage Guide", technical note TN1264.
module DP16KD #(
  parameter DATA_WIDTH_A = 18,
  parameter DATA_WIDTH_B = 18,
  parameter REGMODE_A = "NOREG",
  parameter REGMODE_B = "NOREG",
  parameter RESETMODE = "SYNC",
  parameter ASYNC_RESET_RELEASE = "SYNC",
  parameter CSDECODE_A = "0b000",
  parameter CSDECODE_B = "0b000",
  parameter WRITEMODE_A = "NORMAL",
  parameter WRITEMODE_B = "NORMAL",
  parameter GSR = "ENABLED"
) (
  input CLKA, CEA, OCEA, RSTA, WEA, CSA0, CSA1, CSA2,
  input CLKB, CEB, OCEB, RSTB, WEB, CSB0, CSB1, CSB2,
  input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
  input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
  input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8,
  input DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16, DIA17,
  input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8,
  input DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16, DIB17,
  output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8,
  output DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15, DOA16, DOA17,
  output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8,
  output DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15, DOB16, DOB17
);
  localparam WIDTH = DATA_WIDTH_A;
  // Pins below the word's number: 36 bits leave 5 free, 1 bit none.
  localparam LOW = WIDTH == 36 ? 5 : WIDTH == 18 ? 4 : WIDTH == 9 ? 3 : WIDTH == 4 ? 2 : WIDTH == 2 ? 1 : 0;
  localparam BYTES = WIDTH == 36 ? 4 : WIDTH == 18 ? 2 : 1;
  localparam BITS = WIDTH > 9 ? 9 : WIDTH;

  wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [35:0] di = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
                    DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
                    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
                    DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire [3:0] enables = BYTES == 1 ? 4'b1 : ada[3:0];
  wire writes = CEA & WEA & {CSA2, CSA1, CSA0} == 0;
  wire reads = CEB & {CSB2, CSB1, CSB0} == 0;

  reg [WIDTH-1:0] memory [0:(1 << (14 - LOW)) - 1];
  reg [WIDTH-1:0] core, register;
  integer index;

  initial begin
    if (DATA_WIDTH_B != WIDTH || REGMODE_A != REGMODE_B || WRITEMODE_A != "NORMAL" || RESETMODE != "SYNC") begin
      $display("DP16KD: parameters outside of the model");
      $finish;
    end
    for (index = 0; index < 1 << (14 - LOW); index = index + 1)
      memory[index] = 0;
  end

  always @(posedge CLKA)
    if (writes)
      for (index = 0; index < BYTES; index = index + 1)
        if (enables[index])
          memory[ada[13:LOW]][index*BITS +: BITS] <= di[index*BITS +: BITS];

  always @(posedge CLKB) begin
    if (RSTB) begin
      core <= 0;
      register <= 0;
    end else begin
      if (OCEB)
        register <= core;
      if (reads)
        core <= writes & |enables & ada[13:LOW] == adb[13:LOW] ? {WIDTH{1'bx}} : memory[adb[13:LOW]];
    end
  end

  wire [WIDTH-1:0] out = WEB ? {WIDTH{1'bx}} : REGMODE_B == "OUTREG" ? register : core;
  wire [35:0] pins = WIDTH == 36 ? out : {out, 18'bx};
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
          DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0,
          DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
          DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = pins;
endmodule
