// Two multipliers that get the same operands, random ones and extremes; counts the cycles in which they differ.
module twins #(parameter A_WIDTH = 9, B_WIDTH = 8, CYCLES = 1000);
  reg clk = 0;
  reg [A_WIDTH-1:0] a = 0;
  reg [B_WIDTH-1:0] b = 0;
  wire [A_WIDTH+B_WIDTH-1:0] generic_p, ecp5_p;
  integer cycle, differences = 0, values = 0;

  generic generic (.clk(clk), .rst(1'b0), .a(a), .b(b), .p(generic_p));
  ecp5 ecp5 (.clk(clk), .rst(1'b0), .a(a), .b(b), .p(ecp5_p));

  initial begin
    for (cycle = 0; cycle < CYCLES; cycle = cycle + 1) begin
      a = $random;
      b = $random;
      if ($random % 8 == 0) a = 1 << (A_WIDTH - 1);
      if ($random % 8 == 0) b = 1 << (B_WIDTH - 1);
      #1 clk = 1;
      #1 clk = 0;
      // The registers of a block have no initial value.
      if (cycle >= 16) begin
        if (ecp5_p !== generic_p) differences = differences + 1;
        if (generic_p != 0) values = values + 1;
      end
    end
    $display("differences %0d values %0d", differences, values);
    $finish;
  end
endmodule
