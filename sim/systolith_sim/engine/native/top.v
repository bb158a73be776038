// What Verilator translates: the core without its reset, under names that C++ can write.
//
// Amaranth gives every register an initial value, and reset does nothing more than to restore it. A constant
// reset takes a term out of the next state of most registers, and them out of the logic that depends on inputs,
// all of which is evaluated once more in each cycle.
module top #(
    parameter PORT_BYTES = 1
) (
    input clk,
    output irq,

    output arvalid, input arready, output arid, output [31:0] araddr, output [7:0] arlen, output [2:0] arsize,
    output [1:0] arburst,
    input rvalid, output rready, input rid, input [8*PORT_BYTES-1:0] rdata, input [1:0] rresp, input rlast,
    output awvalid, input awready, output awid, output [31:0] awaddr, output [7:0] awlen, output [2:0] awsize,
    output [1:0] awburst,
    output wvalid, input wready, output [8*PORT_BYTES-1:0] wdata, output [PORT_BYTES-1:0] wstrb, output wlast,
    input bvalid, output bready, input bid, input [1:0] bresp,

    input control_awvalid, output control_awready, input [11:0] control_awaddr,
    input control_wvalid, output control_wready, input [31:0] control_wdata,
    output control_bvalid, input control_bready, output [1:0] control_bresp,
    input control_arvalid, output control_arready, input [11:0] control_araddr,
    output control_rvalid, input control_rready, output [31:0] control_rdata, output [1:0] control_rresp
);
    core core (
        .clk(clk), .rst(1'b0), .interrupt(irq),
        .m_axi__arvalid(arvalid), .m_axi__arready(arready), .m_axi__arid(arid), .m_axi__araddr(araddr),
        .m_axi__arlen(arlen), .m_axi__arsize(arsize), .m_axi__arburst(arburst),
        .m_axi__rvalid(rvalid), .m_axi__rready(rready), .m_axi__rid(rid), .m_axi__rdata(rdata),
        .m_axi__rresp(rresp), .m_axi__rlast(rlast),
        .m_axi__awvalid(awvalid), .m_axi__awready(awready), .m_axi__awid(awid), .m_axi__awaddr(awaddr),
        .m_axi__awlen(awlen), .m_axi__awsize(awsize), .m_axi__awburst(awburst),
        .m_axi__wvalid(wvalid), .m_axi__wready(wready), .m_axi__wdata(wdata), .m_axi__wstrb(wstrb),
        .m_axi__wlast(wlast),
        .m_axi__bvalid(bvalid), .m_axi__bready(bready), .m_axi__bid(bid), .m_axi__bresp(bresp),
        .s_axil__awvalid(control_awvalid), .s_axil__awready(control_awready), .s_axil__awaddr(control_awaddr),
        .s_axil__awprot(3'b0),
        .s_axil__wvalid(control_wvalid), .s_axil__wready(control_wready), .s_axil__wdata(control_wdata),
        .s_axil__wstrb(4'b1111),
        .s_axil__bvalid(control_bvalid), .s_axil__bready(control_bready), .s_axil__bresp(control_bresp),
        .s_axil__arvalid(control_arvalid), .s_axil__arready(control_arready), .s_axil__araddr(control_araddr),
        .s_axil__arprot(3'b0),
        .s_axil__rvalid(control_rvalid), .s_axil__rready(control_rready), .s_axil__rdata(control_rdata),
        .s_axil__rresp(control_rresp)
    );
endmodule
