// Two memories with the same accesses; counts the differences among reads whose answer is defined.
module twins #(parameter WIDTH = 8, ADDRESS = 4, DEPTH = 16, GRANULES = 1, LATENCY = 2, CYCLES = 1000);
  reg clk = 0, r_en = 0;
  reg [GRANULES-1:0] w_en = 0;
  reg [ADDRESS-1:0] r_address = 0, w_address = 0;
  reg [WIDTH-1:0] w_data = 0;
  wire [WIDTH-1:0] generic_data, ecp5_data;
  reg [LATENCY-1:0] defined = 0;
  integer cycle, index, differences = 0, values = 0;

  generic generic (.clk(clk), .rst(1'b0), .r_en(r_en), .r_address(r_address), .r_data(generic_data),
                   .w_en(w_en), .w_address(w_address), .w_data(w_data));
  ecp5 ecp5 (.clk(clk), .rst(1'b0), .r_en(r_en), .r_address(r_address), .r_data(ecp5_data),
             .w_en(w_en), .w_address(w_address), .w_data(w_data));

  // Few addresses, spread over all of the memory, so that what was written is read again.
  function [ADDRESS-1:0] place(input integer noise);
    place = (noise[2:0] * (DEPTH - 1) / 7 + noise[3]) % DEPTH;
  endfunction

  initial begin
    for (cycle = 0; cycle < CYCLES; cycle = cycle + 1) begin
      r_en = $random;
      r_address = place($random);
      w_en = $random;
      w_address = place($random);
      for (index = 0; index < WIDTH; index = index + 32)
        w_data = w_data << 32 | ($random & 32'hffffffff);
      defined = {defined, r_en & ~(|w_en & r_address == w_address)};
      #1 clk = 1;
      #1 clk = 0;
      if (cycle >= LATENCY && defined[LATENCY-1]) begin
        if (ecp5_data !== generic_data) differences = differences + 1;
        if (generic_data != 0) values = values + 1;
      end
    end
    $display("differences %0d values %0d", differences, values);
    $finish;
  end
endmodule
